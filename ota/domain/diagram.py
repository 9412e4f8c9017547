"""The state tables as Mermaid diagrams, for ``docs/rollout-states.md``: ``python -m ota.domain.diagram`` prints it."""

from ota.domain import actions, deployment, rollout

WORDS: dict[type[actions.Action], str] = {
    actions.Propose: "propose",
    actions.Approve: "approve",
    actions.Schedule: "schedule",
    actions.Begin: "begin",
    actions.OpenStage: "open stage",
    actions.CompleteStage: "complete stage",
    actions.Pause: "pause",
    actions.Resume: "resume",
    actions.Succeed: "last stage complete",
    actions.Abort: "abort",
    actions.RollBack: "roll back",
    actions.Finish: "all are back",
}


def rollout_diagram() -> str:
    """The rollout's transitions."""
    lines = ["stateDiagram-v2", f"    [*] --> {rollout.RolloutState.DRAFT}"]
    lines += [f"    {state} --> {to}: {WORDS[action]}" for (state, action), to in rollout.TRANSITIONS.items()]
    return "\n".join(lines)


def deployment_diagram() -> str:
    """The Deployment's transitions."""
    lines = ["stateDiagram-v2", f"    [*] --> {deployment.DeploymentState.PENDING}"]
    for state, targets in deployment.TRANSITIONS.items():
        lines += [f"    {state} --> {to}" for to in deployment.DeploymentState if to in targets]
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    return f"""# States of a rollout and of a Deployment

Written by `python -m ota.domain.diagram` from the tables in `ota/domain/rollout.py` and `ota/domain/deployment.py`.

## Rollout

Where two-person approval is on (`FRAMEFLEET_TWO_PERSON=1`), and in every emergency, a draft becomes a proposal that
somebody else approves. A stage is complete when every Deployment in it is committed, failed, reverted or dark, and at
least one has committed; what else the next stage waits for is its gate's business (a person, evidence, hours of dwell).
While a rollout runs or is paused, a verdict ROLLBACK rolls it back by itself, or pauses it where its plan says so; one
with an end is rolled back then. The rollout pauses itself when more than {rollout.FAILURE_LIMIT:.0%} of a stage's
frames failed or reverted, except that {rollout.TOLERATED_FAILURES} such frame is tolerated in any stage.

```mermaid
{rollout_diagram()}
```

## Deployment

Reports only move a Deployment forward. A frame is dark after {deployment.DARK_AFTER.total_seconds() / 3600:.0f} h of
silence since the offer. An abort sets Deployments in flight and dark ones back to pending: no offer stands any longer.
A rollback tells whatever was offered to return, and is over when every such frame has returned or is silent.

```mermaid
{deployment_diagram()}
```
"""


if __name__ == "__main__":
    print(page(), end="")
