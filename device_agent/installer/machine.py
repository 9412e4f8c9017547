"""The installer's state machine: ``step(journal, event) -> (journal, effects)``, no I/O.

Theory of operation. The journal is the whole state: two slots, which of them plays, what is on its way, how it ended.
The slot that plays (``active``) is never written to: a new release goes into the other slot, and the single step that
moves ``active`` is ``Passed``, out of ``trial``. So a cut between any two steps leaves the old release playing.

Every step is saved before anything else happens, then reported. A restart in mid-way is the event ``Restarted``: the
installation begins anew from ``downloading``; what is in the store already is found there, so this costs no transfer.

``reverted`` means that a trial said no, ``failed`` that the release never got that far. In both the slot that plays is
untouched.

Two events refuse a DesiredState as such, before anything is begun. ``RefusedOffer`` is for one that the director did
sign for this frame and that names a release it may not install any more: it ends in ``failed`` with that release as
target, so that its Deployment learns the reason. ``Objected`` is for all others (forged, for another frame, a replay):
anybody with access to the broker can cause it, so it changes no state and names no release; only, where nothing is on
its way and nothing else went wrong, the failure in the report.
"""

from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from device_agent.installer.slots import Journal, Slot
from protocol.messages import Failure, InstallState, LipError

MAX_TRIAL_ATTEMPTS = 3
"""Trials of one release that may be cut off (power, a crash of the runtime) before it counts as failed."""


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """A DesiredState asks for nothing: keep what plays."""

    version: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A DesiredState names what plays already."""

    version: int


@dataclass(frozen=True, slots=True)
class Began:
    """A DesiredState names another release; it also replaces one that is on its way."""

    version: int
    release: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """Everything the release needs is in the store."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Every file in the store is what both signatures named."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class TrialBegan:
    """The trial is about to run."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The trial said yes."""

    lip_errors: tuple[LipError, ...] = ()


@dataclass(frozen=True, slots=True)
class NotPassed:
    """The trial said no, or could not be run."""

    failure: Failure
    lip_errors: tuple[LipError, ...] = ()


@dataclass(frozen=True, slots=True)
class RefusedRelease:
    """The release on its way was refused before its trial."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class RefusedOffer:
    """The director's newest DesiredState was refused as such; it also ends what is on its way."""

    version: int
    release: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Objected:
    """Something that is not the director's newest word to this frame was refused."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Restarted:
    """The agent started again."""


Event = (
    Kept
    | Settled
    | Began
    | Fetched
    | Verified
    | TrialBegan
    | Passed
    | NotPassed
    | RefusedRelease
    | RefusedOffer
    | Objected
    | Restarted
)


# --- effects ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Save:
    """Write the journal; always first, and nothing else happens if it fails."""


@dataclass(frozen=True, slots=True)
class Report:
    """Publish a ReportedState."""


@dataclass(frozen=True, slots=True)
class Collect:
    """Delete from the store what no slot names."""


@dataclass(frozen=True, slots=True)
class Note:
    """Record a HealthEvent that says why."""

    failure: Failure


Effect = Save | Report | Collect | Note


class IllegalStep(Exception):
    """The event has no place in this state: a mistake in the program, never in what came from outside."""


# --- the table --------------------------------------------------------------------------------------------------------

STATES: tuple[InstallState, ...] = (
    "idle", "downloading", "verifying", "staged", "trial", "committed", "reverted", "failed",
)  # fmt: skip
RESTING: frozenset[InstallState] = frozenset({"idle", "committed", "reverted", "failed"})
"""States in which nothing is on its way."""

SAME = "same"

_ANYWHERE: dict[type, str] = {
    Kept: "idle",
    Settled: "committed",
    Began: "downloading",
    RefusedOffer: "failed",
    Objected: SAME,
}
_BEFORE_TRIAL: dict[type, str] = {RefusedRelease: "failed", Restarted: "downloading"}
_AT_REST: dict[type, str] = {Restarted: SAME}

TRANSITIONS: dict[InstallState, dict[type, str]] = {
    "idle": {**_ANYWHERE, **_AT_REST},
    "downloading": {**_ANYWHERE, **_BEFORE_TRIAL, Fetched: "verifying"},
    "verifying": {**_ANYWHERE, **_BEFORE_TRIAL, Verified: "staged"},
    "staged": {**_ANYWHERE, **_BEFORE_TRIAL, TrialBegan: "trial"},
    "trial": {**_ANYWHERE, Restarted: "downloading", Passed: "committed", NotPassed: "reverted"},
    "committed": {**_ANYWHERE, **_AT_REST},
    "reverted": {**_ANYWHERE, **_AT_REST},
    "failed": {**_ANYWHERE, **_AT_REST},
}
"""state -> event -> next state."""


def step(journal: Journal, event: Event) -> tuple[Journal, tuple[Effect, ...]]:
    """The journal after ``event`` and what is to be done, in this order. Raises IllegalStep."""
    to = TRANSITIONS[journal.state].get(type(event))
    if to is None:
        raise IllegalStep(f"{type(event).__name__} has no place in the state {journal.state}")
    if isinstance(event, Restarted) and to == SAME:
        return journal, ()
    changed, effects = _CONTENT[type(event)](journal, event)
    state: InstallState = journal.state if to == SAME else to  # type: ignore[assignment]
    return replace(changed, state=state, sequence=journal.sequence + 1), (Save(), Report(), *effects)


_Content = tuple[Journal, tuple[Effect, ...]]


def _kept(journal: Journal, event: Kept) -> _Content:
    return replace(journal, desired_version=event.version, target=None, failure=None), ()


def _settled(journal: Journal, event: Settled) -> _Content:
    if journal.playing is None:
        raise IllegalStep("a blank frame plays nothing that could be settled")
    return replace(journal, desired_version=event.version, target=None, failure=None, trial_attempts=0), ()


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
        return replace(journal, slot_a=event.slot), ()
    return replace(journal, slot_b=event.slot), ()


def _trial_began(journal: Journal, _: TrialBegan) -> _Content:
    return replace(journal, trial_attempts=journal.trial_attempts + 1), ()


def _passed(journal: Journal, event: Passed) -> _Content:
    return (
        replace(
            journal, active=journal.other, target=None, failure=None, lip_errors=event.lip_errors, trial_attempts=0
        ),
        (Collect(),),
    )


def _not_passed(journal: Journal, event: NotPassed) -> _Content:
    changed = replace(journal, failure=event.failure, lip_errors=event.lip_errors, trial_attempts=0)
    return changed, (Note(event.failure),)


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


_CONTENT: dict[type, Callable[..., _Content]] = {
    Kept: _kept,
    Settled: _settled,
    Began: _began,
    Fetched: _unchanged,
    Verified: _verified,
    TrialBegan: _trial_began,
    Passed: _passed,
    NotPassed: _not_passed,
    RefusedRelease: _refused,
    RefusedOffer: _refused_offer,
    Objected: _objected,
    Restarted: _unchanged,
}
