"""The installer's table as a Mermaid diagram, for ``docs/agent.md``: ``python -m device_agent.installer.diagram`` puts
it there."""

from pathlib import Path

from device_agent.installer import events, machine

PAGE = Path(__file__).parents[2] / "docs" / "agent.md"
BEGIN, END = "<!-- from the table -->\n", "<!-- end of what comes from the table -->"

WORDS: dict[type[events.Event], str] = {
    events.Kept: "asked for nothing",
    events.Settled: "is committed already",
    events.Began: "another release is desired",
    events.Fetched: "everything is here",
    events.Verified: "every hash is right",
    events.TrialBegan: "trial begins",
    events.Passed: "golden clips say yes",
    events.Continued: "the same release is desired",
    events.Progressed: "played, or ten minutes went by",
    events.Stopped: "orderly stop",
    events.Proved: "3 playbacks or 24 healthy hours",
    events.NotPassed: "trial says no",
    events.RefusedRelease: "release refused",
    events.RefusedOffer: "DesiredState has expired",
    events.Objected: "something else refused",
    events.Renewed: "the same order, issued anew",
    events.Disowned: "the director's keys were replaced",
    events.Crashed: "a film of the committed release crashed",
    events.Steadied: "a film of the committed release ended well",
    events.FellBack: "3 films in a row crashed",
    events.Restarted: "restart",
}


def diagram() -> str:
    """The transitions; those that hold alike in every state are drawn once, from ``any``. Steps that stay are left
    out."""
    first, *others = machine.TRANSITIONS.values()
    anywhere = {event: to for event, to in first.items() if all(row.get(event) == to for row in others)}
    lines = ["stateDiagram-v2", f"    [*] --> {machine.STATES[0]}"]
    lines += [f"    any --> {to}: {WORDS[event]}" for event, to in anywhere.items() if to != machine.SAME]
    for state, row in machine.TRANSITIONS.items():
        own = {event: to for event, to in row.items() if event not in anywhere and to not in (machine.SAME, state)}
        lines += [f"    {state} --> {to}: {WORDS[event]}" for event, to in own.items()]
    return "\n".join(lines)


def written(page: str) -> str:
    """``page`` with the diagram of today. Raises ValueError when the marks are missing."""
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise ValueError(f"{PAGE.name} has lost the marks between which the diagram stands: put them back.")
    return f"{before}{mark}\n```mermaid\n{diagram()}\n```\n\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
