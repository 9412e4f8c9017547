"""One frame in one rollout: the states a Deployment goes through, and which reports may move it.

    pending ─> offered ─> downloading ─> verifying ─> staged ─> trial ─> committed
                  │            └────────────┴───────────┴─────────┴────> reverted | failed
                  └─> dark (silent), from anywhere in flight and back

    whatever was offered ─> returning ─> returned, when the rollout is rolled back; reverted | failed ─> offered, when
    its reason is one that is tried again

``trial`` lasts until the frame has proved the release: first on its golden clips, then on probation, when it plays the
release already (3 playbacks or 24 healthy hours by default) and still goes back by itself if rendering crashes.

Progress only goes forward: a report that comes late never moves a Deployment back. A frame that had failed and later
does run the release has committed, because what plays on the wall is the truth; nothing else leaves a finished state.

A refusal fails a Deployment only where the report names the release as its target, and frames name one only on the
director's own word to them: its release was refused on the way, or the DesiredState itself had expired. What anybody
with access to the broker could have sent (forged, another frame's, a replay) is reported without a target and leaves
the Deployment as it is, or such messages could stop rollouts; ops see it on the frame's page.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from protocol.messages import ReportedState


class DeploymentState(StrEnum):
    """What is known of one frame in one rollout."""

    PENDING = "pending"
    OFFERED = "offered"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    STAGED = "staged"
    TRIAL = "trial"
    COMMITTED = "committed"
    RETURNING = "returning"
    """Told to go back to its former release."""
    RETURNED = "returned"
    REVERTED = "reverted"
    FAILED = "failed"
    DARK = "dark"


S = DeploymentState

DARK_AFTER = timedelta(hours=24)
"""Silence after an offer that makes a frame dark."""
STRANDED = "no_former_release"
"""Reason of a frame that cannot go back: nobody knows what it ran before."""

PROGRESS = (S.PENDING, S.OFFERED, S.DOWNLOADING, S.VERIFYING, S.STAGED, S.TRIAL)
IN_FLIGHT = frozenset(PROGRESS[1:])
FAILURES = frozenset({S.REVERTED, S.FAILED})
FINISHED = frozenset({S.COMMITTED, *FAILURES})
"""States in which the frame itself has given its answer."""
SETTLED = FINISHED | {S.DARK}
"""States a stage need not wait for any longer."""

TRANSITIONS: dict[DeploymentState, frozenset[DeploymentState]] = {
    S.PENDING: frozenset({S.OFFERED, S.COMMITTED}),
    **{
        state: frozenset({*PROGRESS[PROGRESS.index(state) + 1 :], *FINISHED, S.DARK, S.RETURNING})
        for state in PROGRESS
        if state in IN_FLIGHT
    },
    S.DARK: frozenset({*PROGRESS[2:], *FINISHED, S.RETURNING}),
    S.FAILED: frozenset({S.COMMITTED, S.OFFERED}),
    S.REVERTED: frozenset({S.COMMITTED, S.OFFERED}),
    S.COMMITTED: frozenset({S.RETURNING}),
    S.RETURNING: frozenset({S.RETURNED}),
    S.RETURNED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Offer:
    """What was offered to one frame: the release's digest and the version of the DesiredState that carried it."""

    release: str
    desired_version: int


def move(state: DeploymentState, to: DeploymentState) -> DeploymentState:
    """The state after somebody says ``to``: unchanged where the table has no such move."""
    return to if to in TRANSITIONS[state] else state


@dataclass(frozen=True, slots=True)
class Report:
    """The part of a frame's report that concerns Deployments; ``""`` for no release and no target."""

    state: str
    release: str
    target: str
    desired_version: int

    @classmethod
    def of(cls, message: ReportedState) -> "Report":
        """From the message itself."""
        return cls(message.state, message.release or "", message.target or "", message.desired_version)


def said(report: Report, offer: Offer) -> DeploymentState | None:
    """What ``report`` says about ``offer``; None when it is about something else.

    A frame that plays the release and is not trying it out has committed it, whatever version it names: it may have
    had the release before the offer. Anything less counts only from a frame that has seen the offer, so that the
    failure of an earlier offer of the same release is not held against this one.
    """
    if plays(report, offer.release):
        return S.COMMITTED
    if report.target != offer.release or report.desired_version < offer.desired_version:
        return None
    return None if report.state in ("idle", "committed") else S(report.state)


def plays(report: Report, digest: str) -> bool:
    """Whether the frame plays the release ``digest`` for good, not on probation (then the release is its target)."""
    if report.release != digest:
        return False
    return report.state in ("idle", "committed") or (report.target != "" and report.target != digest)


def is_dark(offered_at: datetime, last_seen: datetime | None, now: datetime) -> bool:
    """Whether the frame has been silent for DARK_AFTER since the offer."""
    heard = offered_at if last_seen is None else max(offered_at, last_seen)
    return now - heard >= DARK_AFTER
