"""The rollout's state machine: the table by example, and any order of ticks, looks and commands by Hypothesis."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ota.domain.actions import (
    Abort,
    Action,
    Approve,
    Begin,
    CompleteStage,
    Finish,
    OpenStage,
    Pause,
    Propose,
    Resume,
    RollBack,
    Schedule,
    Succeed,
    as_detail,
    from_detail,
)
from ota.domain.analysis.verdict import Decision
from ota.domain.causes import Cause, Code
from ota.domain.deployment import FINISHED, SETTLED, DeploymentState, move
from ota.domain.gates import Facts, LookFacts, StageFacts, waits_for
from ota.domain.plan import GateKind, Plan, StagePlan
from ota.domain.rollout import (
    TRANSITIONS,
    Command,
    NotAllowed,
    Rollout,
    RolloutState,
    Stage,
    apply,
    command,
    decide,
    planned,
    replay,
    start,
    tolerated,
)

S, R = DeploymentState, RolloutState
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def rollout(*opened: bool, state: RolloutState = R.RUNNING, **stage: Any) -> Rollout:
    stages = [Stage(0.1 * n, opened_at=NOW if is_open else None, **stage) for n, is_open in enumerate(opened, 1)]
    return Rollout(tuple(stages), state)


def facts(**counts: int) -> Facts:
    return Facts({1: StageFacts({S(state): n for state, n in counts.items()})})


def looked(decision: Decision, stage: int = 1, *metrics: str, benefit: bool = False) -> LookFacts:
    return LookFacts(7, stage, NOW, decision, "harm", metrics, evidence=31.4, benefit=benefit)


def test_a_new_rollout_opens_its_first_stage() -> None:
    assert decide(rollout(False, False), Facts(), NOW) == [OpenStage(1)]


def test_a_settled_stage_opens_the_next() -> None:
    assert decide(rollout(True, False), facts(committed=9, dark=1), NOW) == [CompleteStage(1), OpenStage(2)]


def test_the_last_settled_stage_ends_the_rollout() -> None:
    assert decide(rollout(True), facts(committed=9, failed=1), NOW) == [CompleteStage(1), Succeed()]


@pytest.mark.parametrize("state", ["offered", "downloading", "verifying", "staged", "trial"])
def test_a_frame_in_flight_holds_the_stage(state: str) -> None:
    assert decide(rollout(True, False), facts(committed=9, **{state: 1}), NOW) == []


def test_trouble_in_a_stage_that_a_person_advanced_to_counts_although_the_one_before_waits() -> None:
    both = Facts({1: StageFacts({S.OFFERED: 3}), 2: StageFacts({S.FAILED: 5, S.OFFERED: 5})})
    (pause,) = decide(rollout(True, True, False), both, NOW)
    assert isinstance(pause, Pause)
    assert pause.reason.startswith("Stage 2: 5 of 10 frames failed")
    assert pause.cause == Cause(Code.TOO_MANY_FAILED, {"stage": 2, "failed": 5, "frames": 10, "allowed": 1})


def test_the_next_stage_waits_for_every_open_one() -> None:
    both = Facts({1: StageFacts({S.OFFERED: 3}), 2: StageFacts({S.COMMITTED: 10})})
    assert decide(rollout(True, True, False), both, NOW) == [CompleteStage(2)]


def test_an_empty_stage_is_passed() -> None:
    assert decide(rollout(True, False), Facts(), NOW) == [CompleteStage(1), OpenStage(2)]


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


@pytest.mark.parametrize("state", [R.DRAFT, R.PROPOSED, R.PAUSED, R.SUCCEEDED, R.ABORTED, R.ROLLED_BACK])
def test_a_rollout_that_waits_for_people_or_has_ended_stays_as_it_is(state: RolloutState) -> None:
    assert decide(rollout(True, state=state), facts(committed=1), NOW) == []


def test_a_scheduled_rollout_begins_at_its_hour() -> None:
    waiting = replace(rollout(False, state=R.SCHEDULED), start_at=NOW)
    assert decide(waiting, Facts(), NOW - dt.timedelta(seconds=1)) == []
    assert decide(waiting, Facts(), NOW) == [Begin()]


def test_a_draft_begins_now_later_or_when_somebody_else_agrees() -> None:
    plan = Plan(stages=[StagePlan(share=1.0)])
    assert start(planned(plan), NOW, two_person=False) == [Begin()]
    assert start(planned(plan), NOW, two_person=True) == [Propose()]
    later = Plan(stages=plan.stages, start_at=NOW + dt.timedelta(hours=1))
    assert start(planned(later), NOW, two_person=False) == [Schedule()]
    emergency = Plan(stages=plan.stages, emergency=True)
    assert start(planned(emergency), NOW, two_person=False) == [Propose()]


def test_a_freeze_opens_no_stage_but_in_an_emergency() -> None:
    ready = replace(facts(committed=9), frozen="holidays")
    assert decide(rollout(True, False), ready, NOW) == [CompleteStage(1)]
    assert decide(rollout(False, False), Facts(frozen="holidays"), NOW) == []
    assert OpenStage(2) in decide(replace(rollout(True, False), emergency=True), ready, NOW)


def test_a_manual_gate_waits_for_a_person() -> None:
    done = rollout(True, False, gate=GateKind.MANUAL)
    assert decide(done, facts(committed=9), NOW) == [CompleteStage(1)]
    assert waits_for(done, facts(committed=9), NOW) == Cause(Code.WAITS_PERSON, {"stage": 1})


def test_a_manual_gate_on_the_last_stage_keeps_no_rollout_from_ending() -> None:
    assert decide(rollout(True, gate=GateKind.MANUAL), facts(committed=9), NOW) == [CompleteStage(1), Succeed()]


def test_a_stage_stays_open_for_its_dwell() -> None:
    stays = rollout(True, False, dwell_h=24.0)
    soon = NOW + dt.timedelta(hours=23, minutes=30)
    assert decide(stays, facts(committed=9), soon) == [CompleteStage(1)]
    assert waits_for(stays, facts(committed=9), soon) == Cause(Code.WAITS_DWELL, {"stage": 1, "hours": 1})
    assert OpenStage(2) in decide(stays, facts(committed=9), NOW + dt.timedelta(hours=24))


def test_the_evidence_gate_opens_on_promote_alone_and_leaves_stragglers_in_flight() -> None:
    judged = rollout(True, False, gate=GateKind.EVIDENCE)
    here = facts(committed=8, offered=1, dark=1)
    assert decide(judged, here, NOW) == []
    assert decide(judged, replace(here, look=looked(Decision.HOLD)), NOW) == []
    assert decide(judged, replace(here, look=looked(Decision.PROMOTE)), NOW) == [OpenStage(2, look=7)]
    # What was said of an earlier stage is no evidence for this one.
    second = rollout(True, True, False, gate=GateKind.EVIDENCE)
    both = Facts({1: here.of(1), 2: here.of(1)}, looked(Decision.PROMOTE))
    assert decide(second, both, NOW) == []


def test_a_benefit_that_is_asked_for_is_waited_for_after_the_first_stage() -> None:
    helps = replace(rollout(True, True, False, gate=GateKind.EVIDENCE), benefit="complaint")
    here = Facts({1: StageFacts({S.COMMITTED: 9}), 2: StageFacts({S.COMMITTED: 9})}, looked(Decision.PROMOTE, 2))
    assert waits_for(helps, here, NOW) == Cause(Code.WAITS_BENEFIT, {"stage": 2, "metric": "complaint"})
    shown = replace(here, look=looked(Decision.PROMOTE, 2, benefit=True))
    assert OpenStage(3, look=7) in decide(helps, shown, NOW)


def test_the_last_stage_waits_for_no_benefit_and_where_there_are_two_the_first_does() -> None:
    helps = replace(rollout(True, True), benefit="complaint")
    both = Facts({1: StageFacts({S.COMMITTED: 9}), 2: StageFacts({S.COMMITTED: 9})})
    assert Succeed() in decide(helps, both, NOW), "nobody is left to compare the last stage with"
    first = replace(rollout(True, False), benefit="complaint")
    assert waits_for(first, both, NOW) == Cause(Code.WAITS_BENEFIT, {"stage": 1, "metric": "complaint"})


@pytest.mark.parametrize("state", [R.RUNNING, R.PAUSED])
def test_harm_rolls_back_by_itself(state: RolloutState) -> None:
    (action,) = decide(
        rollout(True, False, state=state),
        replace(facts(offered=9), look=looked(Decision.ROLLBACK, 1, "complaint")),
        NOW,
    )
    harm = Cause(Code.HARM, {"stage": 1, "metric": "complaint", "evidence": "31.4", "needed": "20"})
    assert action == RollBack(harm, look=7)


def test_without_guardrails_harm_pauses_and_a_person_may_overrule_it_for_that_stage() -> None:
    watched = replace(rollout(True, True, False), guardrails=False)
    here = Facts(
        {1: StageFacts({S.COMMITTED: 9}), 2: StageFacts({S.OFFERED: 9})}, looked(Decision.ROLLBACK, 2, "power")
    )
    (pause,) = decide(watched, here, NOW)
    assert isinstance(pause, Pause)
    paused = apply(watched, pause, NOW)
    (resume,) = command(paused, Command.RESUME, here, "seen")
    assert resume == Resume(((1, 0), (2, 0)), overruled=2)
    going_on = apply(paused, resume, NOW)
    assert decide(going_on, here, NOW) == [CompleteStage(1)]
    third = apply(going_on, OpenStage(3), NOW)
    assert isinstance(decide(third, replace(here, look=looked(Decision.ROLLBACK, 3, "power")), NOW)[0], Pause)


def test_a_verdict_that_was_overruled_is_not_held_against_the_next_stage() -> None:
    going_on = replace(rollout(True, True, False), guardrails=False, overruled=1)
    late = Facts({1: StageFacts({S.COMMITTED: 9}), 2: StageFacts({S.OFFERED: 9})}, looked(Decision.ROLLBACK, 1))
    assert decide(going_on, late, NOW) == [CompleteStage(1)]


def test_only_the_stage_that_was_looked_at_is_overruled() -> None:
    """A person had advanced before the engine read the verdict on the first stage."""
    paused = replace(rollout(True, True, False, state=R.PAUSED), guardrails=False)
    (resume,) = command(paused, Command.RESUME, Facts(look=looked(Decision.ROLLBACK, 1)), "seen")
    assert resume == Resume(((1, 0), (2, 0)), overruled=1)


def test_resuming_just_after_a_verdict_does_not_switch_the_guardrails_off() -> None:
    paused = rollout(True, False, state=R.PAUSED)
    harmful = Facts(look=looked(Decision.ROLLBACK, 1, "power"))
    (resume,) = command(paused, Command.RESUME, harmful, "the network is back")
    assert isinstance(decide(apply(paused, resume, NOW), harmful, NOW)[0], RollBack)


@pytest.mark.parametrize("state", [R.RUNNING, R.PAUSED, R.SUCCEEDED, R.ABORTED])
def test_a_season_ends_for_everybody(state: RolloutState) -> None:
    seasonal = replace(rollout(True, state=state), end_at=NOW)
    assert decide(seasonal, facts(committed=9), NOW) == [RollBack(Cause(Code.SEASON_OVER))]
    assert RollBack(Cause(Code.SEASON_OVER)) not in decide(seasonal, facts(committed=9), NOW - dt.timedelta(seconds=1))


def test_a_rollback_is_over_when_nobody_is_on_the_way_back() -> None:
    back = rollout(True, state=R.ROLLING_BACK)
    assert decide(back, Facts(returning=3), NOW) == []
    assert decide(back, Facts(), NOW) == [Finish()]


@pytest.mark.parametrize("kind", Command)
@pytest.mark.parametrize("state", R)
def test_a_command_is_done_or_refused_as_the_table_says(state: RolloutState, kind: Command) -> None:
    allowed = {
        R.DRAFT: {Command.START, Command.ABORT},
        R.PROPOSED: {Command.APPROVE, Command.ABORT},
        R.SCHEDULED: {Command.ABORT},
        R.RUNNING: {Command.PAUSE, Command.ADVANCE, Command.ABORT, Command.ROLLBACK},
        R.PAUSED: {Command.RESUME, Command.ABORT, Command.ROLLBACK},
        R.SUCCEEDED: {Command.ROLLBACK},
        R.ABORTED: {Command.ROLLBACK},
        R.ROLLING_BACK: set(),
        R.ROLLED_BACK: set(),
    }
    before = rollout(True, False, state=state)
    if kind in allowed[state]:
        (action,) = command(before, kind, Facts(), "why")
        apply(before, action, NOW)
    else:
        with pytest.raises(NotAllowed, match=f"so {kind.value} is not possible"):
            command(before, kind, Facts(), "why")


def test_nothing_advances_beyond_the_last_stage() -> None:
    with pytest.raises(NotAllowed, match="Stage 1 is the last one") as refused:
        command(rollout(True), Command.ADVANCE, Facts(), "")
    assert refused.value.cause == Cause(Code.LAST_STAGE, {"stage": 1})


class Machine(RuleBasedStateMachine):
    """A rollout over three stages of frames that report anything at any time, while people and evidence say what they
    will."""

    SIZES = (3, 10, 40)

    def __init__(self) -> None:
        super().__init__()
        gates = (GateKind.COMMITTED, GateKind.EVIDENCE, GateKind.COMMITTED)
        stages = (Stage(share, gate, dwell_h=6.0) for share, gate in zip((0.05, 0.25, 1.0), gates, strict=True))
        self.first = Rollout(tuple(stages), R.DRAFT, end_at=NOW + dt.timedelta(days=3))
        self.rollout = self.first
        self.frames = {(stage, number): S.PENDING for stage, size in enumerate(self.SIZES, 1) for number in range(size)}
        self.trail: list[tuple[Action, dt.datetime]] = []
        self.now = NOW
        self.look: LookFacts | None = None
        self.frozen: str | None = None

    def facts(self) -> Facts:
        tables: dict[int, dict[DeploymentState, int]] = {}
        for (stage, _), state in self.frames.items():
            table = tables.setdefault(stage, {})
            table[state] = table.get(state, 0) + 1
        returning = sum(state is S.RETURNING for state in self.frames.values())
        return Facts({stage: StageFacts(table) for stage, table in tables.items()}, self.look, self.frozen, returning)

    def take(self, actions: Sequence[Action]) -> None:
        for action in actions:
            assert (self.rollout.state, type(action)) in TRANSITIONS
            if isinstance(action, OpenStage):
                assert action.number == self.rollout.current_stage + 1
                for key, state in self.frames.items():
                    if key[0] == action.number:
                        self.frames[key] = move(state, S.OFFERED)
            if isinstance(action, RollBack):
                self.frames = {key: move(state, S.RETURNING) for key, state in self.frames.items()}
            self.rollout = apply(self.rollout, action, self.now)
            self.trail.append((from_detail(json.loads(json.dumps(as_detail(action)))), self.now))

    @rule()
    def tick(self) -> None:
        before = self.rollout
        actions = decide(self.rollout, self.facts(), self.now)
        for action in actions:
            if isinstance(action, CompleteStage):
                counts = self.facts().of(action.number).counts
                assert set(counts) <= SETTLED
                accepted = before.stages[action.number - 1].accepted_failures
                assert counts.get(S.COMMITTED, 0) > 0 or accepted is not None
            if isinstance(action, OpenStage):
                assert self.frozen is None
                self.check_gate(before)
        self.take(actions)

    def check_gate(self, before: Rollout) -> None:
        """Nothing opens before the dwell of the stage before it, nor without the verdict it asks for."""
        if before.current_stage == 0:
            return
        stage = before.stages[before.current_stage - 1]
        assert stage.opened_at is not None
        assert self.now - stage.opened_at >= dt.timedelta(hours=stage.dwell_h)
        if stage.gate is GateKind.EVIDENCE:
            assert self.look is not None
            assert (self.look.stage, self.look.decision) == (before.current_stage, Decision.PROMOTE)

    @rule()
    def tick_until_quiet(self) -> None:
        for _ in range(10):
            actions = decide(self.rollout, self.facts(), self.now)
            if not actions:
                break
            self.take(actions)
        else:
            raise AssertionError("the engine does not come to rest")

    @rule(hours=st.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        self.now += dt.timedelta(hours=hours)

    @precondition(lambda self: self.rollout.current_stage > 0)
    @rule(decision=st.sampled_from([Decision.PROMOTE, Decision.PROMOTE, Decision.HOLD, Decision.ROLLBACK]))
    def somebody_looks(self, decision: Decision) -> None:
        self.look = looked(decision, self.rollout.current_stage, "power")

    @rule(why=st.sampled_from([None, None, "holidays"]))
    def rollouts_are_frozen_or_not(self, why: str | None) -> None:
        self.frozen = why

    @rule(kind=st.sampled_from(Command))
    def person(self, kind: Command) -> None:
        try:
            self.take(command(self.rollout, kind, self.facts(), "why"))
        except NotAllowed as refused:
            assert str(refused).endswith(".")

    @precondition(lambda self: self.rollout.current_stage > 0)
    @rule(data=st.data(), to=st.sampled_from(sorted(set(S) - {S.PENDING, S.OFFERED, S.RETURNING})))
    def a_frame_reports(self, data: Any, to: DeploymentState) -> None:
        opened = [key for key in self.frames if key[0] <= self.rollout.current_stage]
        key = data.draw(st.sampled_from(sorted(opened)))
        self.frames[key] = move(self.frames[key], to)

    @precondition(lambda self: self.rollout.current_stage > 0)
    @rule(to=st.sampled_from([S.COMMITTED, S.COMMITTED, S.COMMITTED, S.FAILED, S.DARK, S.RETURNED]))
    def all_frames_of_the_open_stages_report(self, to: DeploymentState) -> None:
        for key, state in self.frames.items():
            if key[0] <= self.rollout.current_stage and state not in FINISHED:
                self.frames[key] = move(state, to)

    @invariant()
    def frames_of_closed_stages_were_never_offered_anything(self) -> None:
        for (stage, _), state in self.frames.items():
            assert (state is S.PENDING) == (stage > self.rollout.current_stage)

    @invariant()
    def success_means_every_stage_is_complete(self) -> None:
        if self.rollout.state is R.SUCCEEDED:
            assert all(stage.completed_at for stage in self.rollout.stages)
            assert self.trail[-1][0] == Succeed()

    @invariant()
    def what_is_rolled_back_has_nobody_on_the_way(self) -> None:
        if self.rollout.state is R.ROLLED_BACK:
            assert S.RETURNING not in self.frames.values()

    @invariant()
    def harm_never_runs_on(self) -> None:
        """With guardrails, no rollout goes on after a verdict ROLLBACK, whoever resumes it."""
        look = self.look
        if self.rollout.state is R.RUNNING and look is not None and look.decision is Decision.ROLLBACK:
            actions = decide(self.rollout, self.facts(), self.now)
            assert isinstance(actions[0], RollBack)

    @invariant()
    def too_many_failures_never_run_on(self) -> None:
        facts = self.facts()
        if self.rollout.state is R.RUNNING and self.frozen is None and decide(self.rollout, facts, self.now) == []:
            for number, stage in enumerate(self.rollout.stages[: self.rollout.current_stage], 1):
                unseen = facts.of(number).failed - (stage.accepted_failures or 0)
                assert unseen <= tolerated(facts.of(number).frames, self.rollout.failure_limit)

    @invariant()
    def the_events_alone_give_the_same_state(self) -> None:
        assert replay(self.first, self.trail) == self.rollout


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRollout = Machine.TestCase


def test_actions_that_nobody_may_take_are_refused() -> None:
    wrong = (OpenStage(1), CompleteStage(1), Pause("x"), Succeed(), Resume(), Abort(), RollBack(), Approve(), Begin())
    for action in wrong:
        with pytest.raises(NotAllowed):
            apply(rollout(True, state=R.ROLLED_BACK), action, NOW)
