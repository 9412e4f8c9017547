"""The rollout's state machine: the table by example, and any order of ticks, reports and commands by Hypothesis."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ota.domain.causes import Cause, Code
from ota.domain.deployment import FINISHED, SETTLED, DeploymentState, move
from ota.domain.rollout import (
    TRANSITIONS,
    Abort,
    Action,
    Command,
    CompleteStage,
    NotAllowed,
    OpenStage,
    Pause,
    Resume,
    RollBack,
    Rollout,
    RolloutState,
    Stage,
    StageFacts,
    Succeed,
    apply,
    command,
    decide,
    tolerated,
)

S, R = DeploymentState, RolloutState
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def rollout(*opened: bool, state: RolloutState = R.RUNNING, **stage: Any) -> Rollout:
    stages = [Stage(0.1 * n, opened_at=NOW if is_open else None, **stage) for n, is_open in enumerate(opened, 1)]
    return Rollout(tuple(stages), state)


def facts(**counts: int) -> dict[int, StageFacts]:
    return {1: StageFacts({S(state): n for state, n in counts.items()})}


def test_a_new_rollout_opens_its_first_stage() -> None:
    assert decide(rollout(False, False), {}, NOW) == [OpenStage(1)]


def test_a_settled_stage_opens_the_next() -> None:
    assert decide(rollout(True, False), facts(committed=9, dark=1), NOW) == [CompleteStage(1), OpenStage(2)]


def test_the_last_settled_stage_ends_the_rollout() -> None:
    assert decide(rollout(True), facts(committed=9, failed=1), NOW) == [CompleteStage(1), Succeed()]


@pytest.mark.parametrize("state", ["offered", "downloading", "verifying", "staged", "trial"])
def test_a_frame_in_flight_holds_the_stage(state: str) -> None:
    assert decide(rollout(True, False), facts(committed=9, **{state: 1}), NOW) == []


def test_trouble_in_a_stage_that_a_person_advanced_to_counts_although_the_one_before_waits() -> None:
    both = {1: StageFacts({S.OFFERED: 3}), 2: StageFacts({S.FAILED: 5, S.OFFERED: 5})}
    (pause,) = decide(rollout(True, True, False), both, NOW)
    assert isinstance(pause, Pause)
    assert pause.reason.startswith("Stage 2: 5 of 10 frames failed")
    assert pause.cause == Cause(Code.TOO_MANY_FAILED, {"stage": 2, "failed": 5, "frames": 10, "allowed": 1})


def test_the_next_stage_waits_for_every_open_one() -> None:
    both = {1: StageFacts({S.OFFERED: 3}), 2: StageFacts({S.COMMITTED: 10})}
    assert decide(rollout(True, True, False), both, NOW) == [CompleteStage(2)]


def test_an_empty_stage_is_passed() -> None:
    assert decide(rollout(True, False), {}, NOW) == [CompleteStage(1), OpenStage(2)]


@pytest.mark.parametrize(
    ("frames", "failed", "pauses"), [(4, 1, False), (4, 2, True), (100, 5, False), (100, 6, True), (2_300, 115, False)]
)
def test_more_failures_than_tolerated_pause(frames: int, failed: int, pauses: bool) -> None:
    actions = decide(rollout(True, False), facts(failed=failed, offered=frames - failed), NOW)
    assert (actions != []) == pauses
    if pauses:
        (pause,) = actions
        assert isinstance(pause, Pause)
        assert f"{failed} of {frames} frames failed" in pause.reason


def test_reverted_counts_as_failed() -> None:
    assert isinstance(decide(rollout(True), facts(reverted=1, failed=1, committed=2), NOW)[0], Pause)


def test_without_any_success_the_rollout_pauses_and_a_person_may_overrule() -> None:
    (pause,) = decide(rollout(True, False), facts(dark=3), NOW)
    assert isinstance(pause, Pause)
    assert "none of its 3 frames" in pause.reason
    assert decide(rollout(True, False, accepted_failures=0), facts(dark=3), NOW) == [CompleteStage(1), OpenStage(2)]


@pytest.mark.parametrize("state", [state for state in R if state is not R.RUNNING])
def test_only_a_running_rollout_decides(state: RolloutState) -> None:
    assert decide(rollout(True, state=state), facts(committed=1), NOW) == []


@pytest.mark.parametrize("kind", Command)
@pytest.mark.parametrize("state", R)
def test_a_command_is_done_or_refused_as_the_table_says(state: RolloutState, kind: Command) -> None:
    allowed = {
        R.PROPOSED: {Command.APPROVE, Command.ABORT},
        R.RUNNING: {Command.PAUSE, Command.ADVANCE, Command.ABORT, Command.ROLLBACK},
        R.PAUSED: {Command.RESUME, Command.ABORT, Command.ROLLBACK},
        R.SUCCEEDED: {Command.ROLLBACK},
        R.ABORTED: {Command.ROLLBACK},
        R.ROLLED_BACK: set(),
    }
    before = rollout(True, False, state=state)
    if kind in allowed[state]:
        (action,) = command(before, kind, {}, "why")
        apply(before, action, NOW)
    else:
        with pytest.raises(NotAllowed, match=f"so {kind.value} is not possible"):
            command(before, kind, {}, "why")


def test_nothing_advances_beyond_the_last_stage() -> None:
    with pytest.raises(NotAllowed, match="Stage 1 is the last one") as refused:
        command(rollout(True), Command.ADVANCE, {}, "")
    assert refused.value.cause == Cause(Code.LAST_STAGE, {"stage": 1})


class Machine(RuleBasedStateMachine):
    """A rollout over three stages of frames that report anything at any time."""

    SIZES = (3, 10, 40)

    def __init__(self) -> None:
        super().__init__()
        self.rollout = Rollout(tuple(Stage(share) for share in (0.05, 0.25, 1.0)))
        self.frames = {(stage, number): S.PENDING for stage, size in enumerate(self.SIZES, 1) for number in range(size)}
        self.trail: list[object] = []

    def facts(self) -> dict[int, StageFacts]:
        tables: dict[int, dict[DeploymentState, int]] = {}
        for (stage, _), state in self.frames.items():
            table = tables.setdefault(stage, {})
            table[state] = table.get(state, 0) + 1
        return {stage: StageFacts(table) for stage, table in tables.items()}

    def take(self, actions: Sequence[Action]) -> None:
        for action in actions:
            assert (self.rollout.state, type(action)) in TRANSITIONS
            if isinstance(action, OpenStage):
                assert action.number == self.rollout.current_stage + 1
                for key, state in self.frames.items():
                    if key[0] == action.number:
                        self.frames[key] = move(state, S.OFFERED)
            self.rollout = apply(self.rollout, action, NOW)
            self.trail.append(action)

    @rule()
    def tick(self) -> None:
        before = self.rollout
        actions = decide(self.rollout, self.facts(), NOW)
        for action in actions:
            if isinstance(action, CompleteStage):
                counts = self.facts()[action.number].counts
                assert set(counts) <= SETTLED
                accepted = before.stages[action.number - 1].accepted_failures
                assert counts.get(S.COMMITTED, 0) > 0 or accepted is not None
        self.take(actions)

    @rule()
    def tick_until_quiet(self) -> None:
        for _ in range(10):
            actions = decide(self.rollout, self.facts(), NOW)
            if not actions:
                break
            self.take(actions)
        else:
            raise AssertionError("the engine does not come to rest")

    @rule(kind=st.sampled_from(Command))
    def person(self, kind: Command) -> None:
        try:
            self.take(command(self.rollout, kind, self.facts(), "why"))
        except NotAllowed as refused:
            assert str(refused).endswith(".")

    @precondition(lambda self: self.rollout.current_stage > 0)
    @rule(data=st.data(), to=st.sampled_from(sorted(set(S) - {S.PENDING, S.OFFERED})))
    def a_frame_reports(self, data: Any, to: DeploymentState) -> None:
        opened = [key for key in self.frames if key[0] <= self.rollout.current_stage]
        key = data.draw(st.sampled_from(sorted(opened)))
        self.frames[key] = move(self.frames[key], to)

    @precondition(lambda self: self.rollout.current_stage > 0)
    @rule(to=st.sampled_from([S.COMMITTED, S.COMMITTED, S.COMMITTED, S.FAILED, S.DARK]))
    def all_frames_of_the_open_stage_report(self, to: DeploymentState) -> None:
        for key, state in self.frames.items():
            if key[0] == self.rollout.current_stage and state not in FINISHED:
                self.frames[key] = move(state, to)

    @invariant()
    def frames_of_closed_stages_were_never_offered_anything(self) -> None:
        for (stage, _), state in self.frames.items():
            assert (state is S.PENDING) == (stage > self.rollout.current_stage)

    @invariant()
    def success_means_every_stage_is_complete(self) -> None:
        if self.rollout.state is R.SUCCEEDED:
            assert all(stage.completed_at for stage in self.rollout.stages)
            assert self.trail[-1] == Succeed()

    @invariant()
    def too_many_failures_never_run_on(self) -> None:
        facts = self.facts()
        if self.rollout.state is R.RUNNING and decide(self.rollout, facts, NOW) == []:
            for number, stage in enumerate(self.rollout.stages[: self.rollout.current_stage], 1):
                unseen = facts[number].failed - (stage.accepted_failures or 0)
                assert unseen <= tolerated(facts[number].frames, self.rollout.failure_limit)


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRollout = Machine.TestCase


def test_actions_that_nobody_may_take_are_refused() -> None:
    for action in (OpenStage(1), CompleteStage(1), Pause("x"), Succeed(), Resume(), Abort(), RollBack()):
        with pytest.raises(NotAllowed):
            apply(rollout(True, state=R.ROLLED_BACK), action, NOW)
