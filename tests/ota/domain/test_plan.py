"""What a plan means, and which ones are refused with one sentence."""

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota.domain.assignment import arm, stage_of
from ota.domain.causes import Code
from ota.domain.plan import (
    POLICIES,
    BenefitGate,
    Blackout,
    GateKind,
    Plan,
    PlanRefused,
    StagePlan,
    Window,
    by_evidence,
    check,
    kept,
    of_shares,
    read,
)

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
HALF = [StagePlan(share=0.5), StagePlan(share=1.0)]


def refusal(plan: Plan) -> Code:
    with pytest.raises(PlanRefused, match=r"^[A-Z].+\.$") as refused:
        check(plan, NOW)
    return refused.value.cause.code


@pytest.mark.parametrize(
    ("shares", "code"),
    [
        ([], Code.PLAN_STAGES),
        ([0.05 * n for n in range(1, 12)], Code.PLAN_STAGES),
        ([0], Code.PLAN_SHARE),
        ([-0.1, 1], Code.PLAN_SHARE),
        ([1.01], Code.PLAN_SHARE),
        ([float("nan")], Code.PLAN_SHARE),
        ([0.5, 0.5], Code.PLAN_SHRINKS),
        ([0.25, 0.05, 1.0], Code.PLAN_SHRINKS),
    ],
)
def test_shares_that_make_no_sense_are_refused(shares: list[float], code: Code) -> None:
    assert refusal(of_shares(shares)) is code


@pytest.mark.parametrize("shares", [[1.0], [0.01, 0.05, 0.25, 1.0], [0.5]])
def test_plain_shares_are_fine(shares: list[float]) -> None:
    check(of_shares(shares), NOW)


@pytest.mark.parametrize(
    ("margins", "code"),
    [
        ({"completion": -0.03}, Code.PLAN_MARGIN),
        ({"power": 0.0}, Code.PLAN_MARGIN),
        ({"completion": float("nan")}, Code.PLAN_MARGIN),
        ({"complaint": 0.5}, Code.PLAN_RATIO),
        ({"complaint": 1.0}, Code.PLAN_RATIO),
        ({"joy": 1.0}, Code.PLAN_METRIC),
    ],
)
def test_margins_of_the_wrong_sign_are_refused(margins: dict[str, float], code: Code) -> None:
    assert refusal(Plan(stages=[StagePlan(share=0.5, margins=margins)])) is code


def later(hours: float) -> dt.datetime:
    return NOW + dt.timedelta(hours=hours)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"start_at": later(-1)}, Code.PLAN_START_PAST),
        ({"start_at": dt.datetime(2027, 1, 1)}, Code.PLAN_ZONE),
        ({"start_at": later(5), "end_at": later(4)}, Code.PLAN_END),
        ({"end_at": later(0)}, Code.PLAN_END),
        ({"windows": [Window(opens=60, closes=60)]}, Code.PLAN_WINDOW),
        ({"blackout": [Blackout(first=dt.date(2026, 12, 26), last=dt.date(2026, 12, 24))]}, Code.PLAN_BLACKOUT),
        ({"timeout_h": 0.0}, Code.PLAN_TIMEOUT),
        ({"holdback": 0.6}, Code.PLAN_HOLDBACK),
        ({"holdback": 0.5}, Code.PLAN_HOLDBACK),
        ({"holdback": -0.1}, Code.PLAN_HOLDBACK),
        ({"benefit": BenefitGate(metric="power", at_least=0.1)}, Code.PLAN_BENEFIT),
        ({"benefit": BenefitGate(metric="complaint", at_least=2.0)}, Code.PLAN_BENEFIT),
    ],
)
def test_times_and_limits_that_make_no_sense_are_refused(how: dict[str, Any], code: Code) -> None:
    assert refusal(Plan(stages=HALF, **how)) is code


def test_evidence_needs_somebody_to_compare_with() -> None:
    everybody = StagePlan(share=1.0, gate=GateKind.EVIDENCE)
    assert refusal(Plan(stages=[everybody])) is Code.PLAN_NO_CONTROL
    check(Plan(stages=[everybody], holdback=0.05), NOW)


def test_a_holdback_needs_a_stage_that_is_everybody() -> None:
    assert refusal(Plan(stages=[StagePlan(share=0.5)], holdback=0.05)) is Code.PLAN_HOLDBACK


def test_a_start_some_minutes_ago_is_now() -> None:
    check(Plan(stages=HALF, start_at=NOW - dt.timedelta(minutes=4)), NOW)


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_plans_and_survive_being_stored(name: str) -> None:
    plan = by_evidence(name)
    check(plan, NOW)
    assert read(json.loads(json.dumps(kept(plan)))) == plan
    assert [step.gate for step in plan.steps()][-2:] == [GateKind.COMMITTED] * 2
    assert plan.steps()[-2].dwell_h == 168.0
    assert plan.shares()[-2:] == [0.95, 1.0]


def test_an_unknown_policy_or_field_is_named() -> None:
    with pytest.raises(PlanRefused, match="There is no policy brave: use standard, small-fleet"):
        by_evidence("brave")
    with pytest.raises(PlanRefused, match="unknown field `speed`"):
        read({"stages": [{"share": 1.0, "speed": 3}]})
    with pytest.raises(PlanRefused, match="The plan cannot be read"):
        read({"stages": "all"})


def test_each_stage_is_compared_with_those_who_do_not_get_it_before_the_end() -> None:
    plan = by_evidence("standard")
    assert [plan.control_from(number) for number in range(1, 6)] == [0.25, 0.25, 0.25, 0.95, None]
    assert [of_shares([0.5]).control_from(1), of_shares([0.1, 1.0]).control_from(2)] == [0.5, None]


@given(u=st.floats(0, 1, exclude_max=True), name=st.sampled_from(sorted(POLICIES)))
def test_a_control_is_exposed_by_no_stage_that_it_is_compared_with(u: float, name: str) -> None:
    plan = by_evidence(name)
    side, stage = arm(u, plan.shares(), plan.holdback), stage_of(u, plan.shares())
    assert stage is not None
    for number in range(1, len(plan.steps())):
        reservoir = plan.control_from(number)
        assert reservoir is not None
        assert not (u >= reservoir and stage <= number)
    assert (side == "holdback") == (u >= 1.0 - plan.holdback)
    assert (side == "canary") == (stage < len(plan.stages))
