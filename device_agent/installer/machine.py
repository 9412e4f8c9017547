"""The installer's state machine: ``step(journal, event) -> (journal, effects)``, no I/O.

Theory of operation. The journal is the whole state: two slots, which of them is active, what is on its way, how it
ended. Neither the active slot nor the one that plays is ever written to: a new release goes into the other slot.

A trial has two parts. First the golden clips run while the active release plays. What passes them is on probation: the
new slot plays, while ``active`` still names the old one, so that anything that ends probation (a crash, another
DesiredState, a journal that an older agent reads) falls back to the old release by itself. The single step of an
installation that moves ``active`` is ``Proved``. So a cut between any two steps leaves a release playing that was
committed, or goes on with probation. Reports call both parts ``trial``; the table keeps them apart as the states
``trial`` and ``probation``.

Every step is saved before anything else happens, then reported. A restart in mid-way is the event ``Restarted``: the
installation begins anew from ``downloading``; what is in the store already is found there, so this costs no transfer.
On probation it goes on, and is counted unless the agent had been stopped in order: a release may bring the frame down.

``reverted`` means that a trial said no, ``failed`` that the release never got that far. In both the active slot is
untouched.

A committed release may still turn out to crash the renderer film after film. Then, between installations, the release
committed before it plays again (``FellBack``), as long as its slot has not been overwritten and it is of no older
security epoch: the other step that moves ``active``. The frame says so and waits for another DesiredState.

Two events refuse a DesiredState as such, before anything is begun. ``RefusedOffer`` is for one that the director did
sign for this frame and that names a release it may not install any more: it ends in ``failed`` with that release as
target, so that its Deployment learns the reason. ``Objected`` is for all others (forged, for another frame, a replay):
anybody with access to the broker can cause it, so it changes no state and names no release; only, where nothing is on
its way and nothing else went wrong, the failure in the report.
"""

from collections.abc import Callable
from typing import Literal, cast

from msgspec.structs import replace

from device_agent.installer.events import (
    Began,
    Collect,
    Continued,
    Crashed,
    Disowned,
    Effect,
    Event,
    FellBack,
    Fetched,
    Kept,
    Note,
    NotPassed,
    Objected,
    Passed,
    Progressed,
    Proved,
    RefusedOffer,
    RefusedRelease,
    Renewed,
    Report,
    Restarted,
    Save,
    Settled,
    Steadied,
    Stopped,
    TrialBegan,
    Verified,
)
from device_agent.installer.slots import Journal, Probation
from protocol.messages import InstallState

MAX_TRIAL_ATTEMPTS = 3
"""Trials of one release that may be cut off (power, a crash of the agent) before it counts as failed; on probation,
starts that no orderly stop preceded without a playback in between."""

MAX_CRASHES = 3
"""Films of the committed release in a row that may crash before the one committed before it plays again."""

State = InstallState | Literal["probation"]


class IllegalStep(Exception):
    """The event has no place in this state: a mistake in the program, never in what came from outside."""


# --- the table --------------------------------------------------------------------------------------------------------

STATES: tuple[State, ...] = (
    "idle", "downloading", "verifying", "staged", "trial", "probation", "committed", "reverted", "failed",
)  # fmt: skip
INSTALLING: frozenset[State] = frozenset({"downloading", "verifying", "staged", "trial"})
"""States in which an installation is under way; a restart begins it anew."""

SAME = "same"

_ANYWHERE: dict[type, str] = {
    Kept: "idle",
    Settled: "committed",
    Began: "downloading",
    RefusedOffer: "failed",
    Objected: SAME,
    Renewed: SAME,
    Disowned: SAME,
    Crashed: SAME,
    Steadied: SAME,
}
_INSTALLING: dict[type, str] = {RefusedRelease: "failed", Restarted: "downloading"}
_AT_REST: dict[type, str] = {Restarted: SAME, FellBack: "reverted"}

TRANSITIONS: dict[State, dict[type, str]] = {
    "idle": {**_ANYWHERE, **_AT_REST},
    "downloading": {**_ANYWHERE, **_INSTALLING, Fetched: "verifying"},
    "verifying": {**_ANYWHERE, **_INSTALLING, Verified: "staged"},
    "staged": {**_ANYWHERE, **_INSTALLING, TrialBegan: "trial"},
    "trial": {**_ANYWHERE, **_INSTALLING, Passed: "probation", NotPassed: "reverted"},
    "probation": {
        **_ANYWHERE,
        Continued: "probation",
        Progressed: "probation",
        Stopped: "probation",
        Restarted: "probation",
        Proved: "committed",
        NotPassed: "reverted",
    },
    "committed": {**_ANYWHERE, **_AT_REST},
    "reverted": {**_ANYWHERE, **_AT_REST, FellBack: SAME},
    "failed": {**_ANYWHERE, **_AT_REST, FellBack: SAME},
}
"""state -> event -> next state."""


def state_of(journal: Journal) -> State:
    """Where the journal stands in the table."""
    return journal.state if journal.probation is None else "probation"


def step(journal: Journal, event: Event) -> tuple[Journal, tuple[Effect, ...]]:
    """The journal after ``event`` and what is to be done, in this order. Raises IllegalStep."""
    state = state_of(journal)
    to = TRANSITIONS[state].get(type(event))
    if to is None:
        raise IllegalStep(f"{type(event).__name__} has no place in the state {state}")
    if isinstance(event, Restarted) and to == SAME:
        return journal, ()
    changed, effects = _CONTENT[type(event)](journal, event)
    after = state if to == SAME else cast(State, to)
    changed = replace(
        changed,
        state="trial" if after == "probation" else after,
        probation=changed.probation if after == "probation" else None,
        sequence=journal.sequence + 1,
    )
    return changed, (Save(), Report(), *effects)


_Content = tuple[Journal, tuple[Effect, ...]]


def _kept(journal: Journal, event: Kept) -> _Content:
    return replace(_as_committed(journal), desired_version=event.version, target=None, failure=None), ()


def _settled(journal: Journal, event: Settled) -> _Content:
    if journal.committed is None:
        raise IllegalStep("a frame that has committed nothing has nothing that could be settled")
    return replace(
        _as_committed(journal), desired_version=event.version, target=None, failure=None, trial_attempts=0
    ), ()


def _as_committed(journal: Journal) -> Journal:
    """Figures stand beside a release in reports: at rest they are those of the release that plays."""
    if journal.state in ("idle", "committed"):
        return journal
    return replace(journal, lip_errors=journal.active_lip_errors, figures=journal.active_figures)


def _began(journal: Journal, event: Began) -> _Content:
    attempts = journal.trial_attempts if event.release == journal.target else 0
    if event.version != journal.desired_version:
        attempts = 0
    return (
        replace(journal, desired_version=event.version, target=event.release, failure=None, trial_attempts=attempts),
        (),
    )


def _unchanged(journal: Journal, _: Event) -> _Content:
    return journal, ()


def _verified(journal: Journal, event: Verified) -> _Content:
    if event.slot.release != journal.target:
        raise IllegalStep("the verified release is not the one on its way")
    if journal.other == "A":
        return replace(journal, slot_a=event.slot, fallback=False), ()
    return replace(journal, slot_b=event.slot, fallback=False), ()


def _trial_began(journal: Journal, _: TrialBegan) -> _Content:
    return replace(journal, trial_attempts=journal.trial_attempts + 1), ()


def _passed(journal: Journal, event: Passed) -> _Content:
    changed = replace(journal, lip_errors=event.lip_errors, figures=dict(event.figures), trial_attempts=0)
    return replace(changed, probation=Probation()), ()


def _continued(journal: Journal, event: Continued) -> _Content:
    return replace(journal, desired_version=event.version), ()


def _probation(journal: Journal) -> Probation:
    if journal.probation is None:
        raise IllegalStep("no release is on probation")
    return journal.probation


def _progressed(journal: Journal, event: Progressed) -> _Content:
    before = _probation(journal)
    restarts = 0 if event.playbacks > before.playbacks else before.restarts
    answered = before.answered or event.answered
    after = replace(before, playbacks=event.playbacks, healthy_s=event.healthy_s, restarts=restarts, answered=answered)
    return replace(journal, probation=after), ()


def _stopped(journal: Journal, event: Stopped) -> _Content:
    changed, _ = _progressed(journal, Progressed(event.playbacks, event.healthy_s))
    return replace(changed, probation=replace(_probation(changed), stopped=True)), ()


def _restarted(journal: Journal, _: Restarted) -> _Content:
    before = journal.probation
    if before is None:
        return journal, ()
    restarts = before.restarts if before.stopped else before.restarts + 1
    return replace(journal, probation=replace(before, restarts=restarts, stopped=False)), ()


def _proved(journal: Journal, event: Proved) -> _Content:
    changed, _ = _progressed(journal, Progressed(event.playbacks, event.healthy_s))
    changed = replace(_with_progress(changed), active=journal.other, target=None, failure=None)
    changed = replace(changed, fallback=journal.committed is not None, crashes=0)
    return replace(changed, active_lip_errors=changed.lip_errors, active_figures=changed.figures), (Collect(),)


def _not_passed(journal: Journal, event: NotPassed) -> _Content:
    if journal.probation is not None:
        return replace(_with_progress(journal), failure=event.failure), (Note(event.failure),)
    changed = replace(journal, lip_errors=event.lip_errors, figures=dict(event.figures), trial_attempts=0)
    return replace(changed, failure=event.failure), (Note(event.failure),)


def _with_progress(journal: Journal) -> Journal:
    return replace(journal, figures=journal.figures | _probation(journal).figures)


def _refused(journal: Journal, event: RefusedRelease) -> _Content:
    return replace(journal, failure=event.failure), (Note(event.failure),)


def _refused_offer(journal: Journal, event: RefusedOffer) -> _Content:
    changed = replace(
        journal, desired_version=event.version, target=event.release, failure=event.failure, trial_attempts=0
    )
    return changed, (Note(event.failure),)


def _objected(journal: Journal, event: Objected) -> _Content:
    # The failure of the release itself says more than that of a stray message.
    quiet = journal.state in ("idle", "committed")
    return replace(journal, failure=event.failure) if quiet else journal, (Note(event.failure),)


def _renewed(journal: Journal, event: Renewed) -> _Content:
    return replace(journal, desired_version=event.version), ()


def _disowned(journal: Journal, _: Disowned) -> _Content:
    return replace(journal, desired_version=0), ()


def _crashed(journal: Journal, _: Crashed) -> _Content:
    return replace(journal, crashes=journal.crashes + 1), ()


def _steadied(journal: Journal, _: Steadied) -> _Content:
    return replace(journal, crashes=0), ()


def _fell_back(journal: Journal, event: FellBack) -> _Content:
    committed = journal.committed
    if committed is None or journal.before is None:
        raise IllegalStep("there is no release to fall back to")
    # Nothing was measured lately of what plays now.
    changed = replace(journal, active=journal.other, fallback=False, crashes=0, active_lip_errors=(), active_figures={})
    if journal.state in ("idle", "committed"):
        changed = replace(changed, target=committed.release, failure=event.failure)
    return changed, (Note(event.failure),)


_CONTENT: dict[type, Callable[..., _Content]] = {
    Kept: _kept,
    Settled: _settled,
    Began: _began,
    Fetched: _unchanged,
    Verified: _verified,
    TrialBegan: _trial_began,
    Passed: _passed,
    Continued: _continued,
    Progressed: _progressed,
    Stopped: _stopped,
    Proved: _proved,
    NotPassed: _not_passed,
    RefusedRelease: _refused,
    RefusedOffer: _refused_offer,
    Objected: _objected,
    Renewed: _renewed,
    Disowned: _disowned,
    Crashed: _crashed,
    Steadied: _steadied,
    FellBack: _fell_back,
    Restarted: _restarted,
}
