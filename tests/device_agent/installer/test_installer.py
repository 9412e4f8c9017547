"""The installer's machine: whatever happens in whatever order, what plays was verified and committed."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from device_agent.installer.events import (
    Began,
    Collect,
    Continued,
    Crashed,
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
    Report,
    Restarted,
    Save,
    Settled,
    Steadied,
    Stopped,
    TrialBegan,
    Verified,
)
from device_agent.installer.machine import INSTALLING, SAME, STATES, TRANSITIONS, IllegalStep, state_of, step
from device_agent.installer.slots import Installed, Journal, Slot
from protocol.errors import Reason
from protocol.messages import Failure

FAILURE = Failure(reason=Reason.TRIAL_FAILED, detail="The lips are off.")
RELEASES = [f"{number:x}" * 64 for number in range(1, 5)]


def slot_of(release: str) -> Slot:
    bundle = Installed(kind="base_model", path="base/b", length=1, sha256="b" * 64)
    adapter = Installed(kind="lora_delta", path="lora/a", length=1, sha256=release[::-1])
    return Slot(release=release, artifacts=(bundle, adapter))


class Installing(RuleBasedStateMachine):
    """Any order of events; a cut loses everything but what was saved last."""

    def __init__(self) -> None:
        super().__init__()
        self.journal = Journal(journal_id="0" * 32)
        self.version = 0
        self.verified: set[str] = set()
        self.passed: set[str] = set()
        self.committed: list[str] = []
        self.cuts = 0
        """Since the last playback on probation."""

    @property
    def state(self) -> str:
        return state_of(self.journal)

    def happen(self, event: Event) -> None:
        before = self.journal
        after, effects = step(before, event)
        if after is before:
            assert effects == ()
            return
        assert effects[:2] == (Save(), Report())
        assert after.sequence == before.sequence + 1
        if not isinstance(event, Proved | FellBack):
            assert (after.active, after.committed) == (before.active, before.committed), "only a commit moves it"
        if isinstance(event, Verified):
            assert after.playing == before.playing == before.committed, "what plays is never written to"
        else:
            assert (after.slot_a, after.slot_b) == (before.slot_a, before.slot_b)
        # What is saved is what is read back after a cut.
        self.journal = msgspec.json.decode(msgspec.json.encode(after), type=Journal)
        assert self.journal == after

    @rule(release=st.sampled_from(RELEASES))
    def offer(self, release: str) -> None:
        self.version += 1
        committed = self.journal.committed
        if committed is not None and committed.release == release:
            self.happen(Settled(self.version))
            assert self.journal.state == "committed"
        elif self.state == "probation" and self.journal.target == release:
            counted = self.journal.probation
            self.happen(Continued(self.version))
            assert (self.state, self.journal.probation) == ("probation", counted)
        else:
            self.happen(Began(self.version, release))
            assert self.journal.state == "downloading"
        assert self.journal.desired_version == self.version

    @rule()
    def keep(self) -> None:
        self.version += 1
        self.happen(Kept(self.version))

    @precondition(lambda self: self.state == "downloading")
    @rule()
    def fetched(self) -> None:
        self.happen(Fetched())

    @precondition(lambda self: self.state == "verifying")
    @rule()
    def verify(self) -> None:
        assert self.journal.target is not None
        self.verified.add(self.journal.target)
        self.happen(Verified(slot_of(self.journal.target)))

    @precondition(lambda self: self.state == "staged")
    @rule()
    def try_it(self) -> None:
        self.happen(TrialBegan())

    @precondition(lambda self: self.state == "trial")
    @rule()
    def golden_clips(self) -> None:
        target = self.journal.target
        assert target is not None
        self.happen(Passed((), {"memory_mb": 90.0}))
        self.passed.add(target)
        self.cuts = 0
        assert self.journal.state == "trial"
        assert self.journal.playing == slot_of(target)

    @precondition(lambda self: self.state == "probation")
    @rule(played=st.booleans())
    def progress(self, played: bool) -> None:
        before = self.journal.probation
        assert before is not None
        self.happen(Progressed(before.playbacks + played, before.healthy_s + 60))
        self.cuts = 0 if played else self.cuts

    @precondition(lambda self: self.state == "probation")
    @rule()
    def commit(self) -> None:
        target = self.journal.target
        assert target is not None
        plays = self.journal.playing
        self.happen(Proved(3, 60.0))
        self.committed.append(target)
        assert self.journal.playing == plays
        assert self.journal.figures == {"memory_mb": 90.0, "playbacks": 3.0, "healthy_h": 0.017}

    @precondition(lambda self: self.state in ("trial", "probation"))
    @rule()
    def go_back(self) -> None:
        target = self.journal.target
        self.happen(NotPassed(FAILURE))
        assert (self.journal.state, self.journal.target, self.journal.failure) == ("reverted", target, FAILURE)

    @precondition(lambda self: self.state in INSTALLING)
    @rule()
    def refuse(self) -> None:
        self.happen(RefusedRelease(FAILURE))

    @rule(release=st.sampled_from(RELEASES))
    def refuse_offer(self, release: str) -> None:
        self.version += 1
        self.happen(RefusedOffer(self.version, release, FAILURE))
        journal = self.journal
        assert (journal.state, journal.target, journal.failure) == ("failed", release, FAILURE)
        assert journal.desired_version == self.version

    @rule()
    def object(self) -> None:
        before = self.journal
        self.happen(Objected(FAILURE))
        after = self.journal
        assert (after.state, after.target, after.desired_version, after.probation) == (
            before.state,
            before.target,
            before.desired_version,
            before.probation,
        )
        if after.failure != before.failure:
            assert after.target is None, "it never stands beside the name of a release"

    @rule(well=st.booleans())
    def film(self, well: bool) -> None:
        before = self.journal
        self.happen(Steadied() if well else Crashed())
        assert self.journal.crashes == (0 if well else before.crashes + 1)
        assert (self.journal.playing, state_of(self.journal)) == (before.playing, state_of(before))

    @precondition(lambda self: FellBack in TRANSITIONS[self.state] and self.journal.before is not None)
    @rule()
    def fall_back(self) -> None:
        before, crashed = self.journal.before, self.journal.committed
        assert before is not None
        assert crashed is not None
        quiet = self.state in ("idle", "committed")
        self.happen(FellBack(FAILURE))
        assert before.release in self.committed[:-1], "only what was committed plays"
        self.committed.append(before.release)
        assert (self.journal.playing, self.journal.before, self.journal.crashes) == (before, None, 0)
        if quiet:
            assert (self.journal.state, self.journal.target) == ("reverted", crashed.release)

    @rule(in_order=st.booleans())
    def cut(self, in_order: bool) -> None:
        before = self.state
        if before == "probation":
            if in_order:
                probation = self.journal.probation
                assert probation is not None
                self.happen(Stopped(probation.playbacks, probation.healthy_s))
            else:
                self.cuts += 1
        self.happen(Restarted())
        assert self.state == ("downloading" if before in INSTALLING else before)

    @rule(
        event=st.sampled_from(
            [Fetched(), Verified(slot_of("f" * 64)), TrialBegan(), Passed(), Proved(3, 0.0), NotPassed(FAILURE)]
        )
    )
    def out_of_place(self, event: Event) -> None:
        if type(event) in TRANSITIONS[state_of(self.journal)] and not isinstance(event, Verified):
            return
        with pytest.raises(IllegalStep):
            step(self.journal, event)

    @invariant()
    def what_is_active_was_committed_and_is_whole(self) -> None:
        committed = self.journal.committed
        if not self.committed:
            assert committed is None
            return
        assert committed == slot_of(self.committed[-1])
        assert committed.release in self.verified & self.passed
        assert committed.files() <= self.journal.files()

    @invariant()
    def what_plays_is_active_or_passed_its_golden_clips(self) -> None:
        playing = self.journal.playing
        if self.state != "probation":
            assert playing == self.journal.committed
            assert self.journal.probation is None
            return
        assert self.journal.probation is not None
        assert playing is not None
        assert playing.release == self.journal.target
        assert playing.release in self.passed
        assert playing.files() <= self.journal.files()
        assert self.journal.probation.restarts == self.cuts

    @invariant()
    def a_failure_is_told_only_while_it_is_true(self) -> None:
        if self.journal.state in ("reverted", "failed"):
            assert self.journal.failure is not None
        if self.state in INSTALLING | {"probation"}:
            assert self.journal.failure is None
            assert self.journal.target is not None


TestInstalling = Installing.TestCase
TestInstalling.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_every_state_of_the_table_exists_and_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS) == set(STATES)
    targets = {to for row in TRANSITIONS.values() for to in row.values()} - {SAME}
    assert targets == set(STATES)
    assert {
        state for state, row in TRANSITIONS.items() if "committed" in (to for e, to in row.items() if e != Settled)
    } == {"probation"}
    for state, row in TRANSITIONS.items():
        assert any(to not in (SAME, state) for to in row.values())


def test_a_commit_tidies_up_and_a_refusal_says_why() -> None:
    journal = Journal(journal_id="0" * 32)
    events = (Began(1, RELEASES[0]), Fetched(), Verified(slot_of(RELEASES[0])), TrialBegan())
    for event in events:
        journal, _ = step(journal, event)
    assert step(journal, NotPassed(FAILURE))[1] == (Save(), Report(), Note(FAILURE))
    journal, effects = step(journal, Passed())
    assert effects == (Save(), Report())
    assert step(journal, NotPassed(FAILURE))[1] == (Save(), Report(), Note(FAILURE))
    assert step(journal, Proved(3, 0.0))[1] == (Save(), Report(), Collect())


def test_cut_off_trials_are_counted_for_one_offer() -> None:
    journal = Journal(journal_id="0" * 32)
    for expected in (1, 2):
        for event in (Began(1, RELEASES[0]), Fetched(), Verified(slot_of(RELEASES[0])), TrialBegan(), Restarted()):
            journal, _ = step(journal, event)
        assert journal.trial_attempts == expected
    journal, _ = step(journal, Began(2, RELEASES[0]))
    assert journal.trial_attempts == 0


def test_nothing_older_in_its_security_epoch_is_fallen_back_to() -> None:
    slots = [slot_of(release) for release in RELEASES[:2]]
    for epochs, falls in (((0, 0), True), ((1, 0), True), ((0, 1), False)):
        before, committed = (msgspec.structs.replace(s, security_epoch=e) for s, e in zip(slots, epochs, strict=True))
        journal = Journal(journal_id="0" * 32, active="B", slot_a=before, slot_b=committed, fallback=True)
        assert (journal.before == before) is falls
        if not falls:
            with pytest.raises(IllegalStep):
                step(journal, FellBack(FAILURE))


def after(journal: Journal, *events: Event) -> Journal:
    for event in events:
        journal, _ = step(journal, event)
    return journal


def test_what_was_overwritten_or_never_committed_is_not_fallen_back_to() -> None:
    journal = Journal(journal_id="0" * 32)
    for number, release in enumerate(RELEASES[:3]):
        assert journal.before is None or journal.before.release == RELEASES[number - 2]
        journal = after(journal, Began(number, release), Fetched(), Verified(slot_of(release)))
        assert journal.before is None, "its slot is the one that is written to"
        journal = after(journal, TrialBegan(), Passed(), Proved(3, 60.0))
    assert journal.before == slot_of(RELEASES[1])
    began = after(journal, Began(9, RELEASES[3]), Fetched(), Verified(slot_of(RELEASES[3])))
    journal = after(began, TrialBegan(), NotPassed(FAILURE))
    assert journal.before is None, "its golden clips said no"
