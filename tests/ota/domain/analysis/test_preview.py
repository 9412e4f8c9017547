"""Before a rollout starts: what the past says, hours to a verdict against simulated rollouts, and who is too small."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ota.domain.analysis.evaluate import evaluate
from ota.domain.analysis.policy import COMPLAINT, COMPLETION, LATENCY, POWER, SMALL_FLEET_STAGES, STAGES, Stage
from ota.domain.analysis.power import Fleet, learn
from ota.domain.analysis.preview import DWELL, Shortage, preview, recommend
from ota.domain.analysis.rehearsal import rehearse
from ota.domain.analysis.table import Table, take
from ota.domain.analysis.verdict import Decision, judge
from tests.ota.domain.analysis.people import POLICY, Effect, table

QUICK = replace(POLICY, preview_runs=60)
ONE = (Stage(0.25, dwell_h=48, margins={COMPLETION: 0.03, POWER: 0.05, COMPLAINT: 2.5}),)


@cache
def past(frames: int) -> Table:
    return table(500 + frames, frames, 28)


@cache
def fleet(frames: int) -> Fleet:
    return learn(past(frames), QUICK)


def hours_of(effect: Effect, decision: Decision, seeds: range) -> np.ndarray:
    """When rollouts to 700 frames, looked at once a day, came to ``decision``; infinity for never."""
    found = []
    for seed in seeds:
        whole, hours = table(900 + seed, 700, 28, 0.25, effect), np.inf
        for day in range(28):
            now = replace(whole, days=take(whole.days, whole.days.day <= day), now_h=day * 24.0 + 23.9)
            verdict = judge(evaluate(now, ONE[0], 0.0, POLICY), ONE[0], now.now_h + 0.1, POLICY)
            if verdict.decision is not Decision.HOLD:
                hours = (day + 1) * 24.0 if verdict.decision is decision else np.inf
                break
        found.append(hours)
    return np.array(found)


def test_the_past_says_how_frames_play_vary_and_complain() -> None:
    """As in ``people``: 5 playbacks a day; completion varies by 0.78 x 0.22 x 0.9 within a frame and does not drift;
    every complaint comes alone, at 1.5 % of days."""
    known = fleet(2300)
    assert known.activity.mean() == pytest.approx(5.0, rel=0.05)
    completion = known.measures[COMPLETION]
    assert completion.within == pytest.approx(0.154, rel=0.12)
    assert completion.drift < 0.0006
    assert completion.prior == pytest.approx(9.0, rel=0.2)
    assert known.complaints.mean() == pytest.approx(0.0145, rel=0.15)
    assert 1.0 <= known.burst < 1.25
    rates = [known.hazard[known.risk == group].mean() for group in range(4)]
    assert rates == sorted(rates)


def test_a_fleet_without_any_past_before_the_past_is_learned_from_too() -> None:
    of = past(2300)
    frames = replace(of.frames, history={}, history_days=np.zeros(2300), history_complaints=np.zeros(2300))
    bare, known = learn(replace(of, frames=frames), QUICK), fleet(2300)
    assert bare.measures[COMPLETION].within == pytest.approx(known.measures[COMPLETION].within, rel=0.15)
    assert bare.complaints.mean() == pytest.approx(known.complaints.mean(), rel=0.15)
    assert 1.0 <= bare.burst < 1.3


def test_the_hours_are_those_of_simulated_rollouts() -> None:
    """The median of 30 rollouts; looks are daily there and every 3 hours here."""
    known = learn(table(800, 700, 28), QUICK)
    found = preview(known, (*ONE, Stage(1.0, 24)), QUICK, harms=((COMPLETION, -0.05),))
    promoted = hours_of(Effect(), Decision.PROMOTE, range(30))
    assert found.hours_median == pytest.approx(float(np.median(promoted)), rel=0.35)
    assert found.promoted == pytest.approx(float(np.isfinite(promoted).mean()), abs=0.15)
    back = hours_of(Effect(completion=-0.05), Decision.ROLLBACK, range(15))
    assert found.harms[0].hours_median == pytest.approx(float(np.median(back)), rel=0.35, abs=24.0)
    assert found.harms[0].rolled_back > 0.9


def test_larger_fleets_are_decided_sooner_and_small_ones_not_at_all() -> None:
    sizes = (80, 600, 2300)
    small = {size: preview(fleet(size), SMALL_FLEET_STAGES, QUICK, harms=()) for size in sizes}
    hours = [small[size].hours_median or np.inf for size in sizes]
    assert hours == sorted(hours, reverse=True)
    assert not small[80].enough
    assert small[600].enough
    large = preview(fleet(10_000), STAGES, QUICK, harms=())
    assert large.hours_median == pytest.approx(120.0, abs=12.0), "its dwell: 24, 48 and 48 hours"
    assert [stage.bottleneck for stage in large.stages] == [DWELL] * 3
    assert (preview(fleet(2300), STAGES, QUICK, harms=()).hours_median or 0) > 120.0


def test_the_stages_offered_are_the_strictest_that_decide_in_time() -> None:
    assert recommend(fleet(10_000), QUICK) == STAGES
    assert recommend(fleet(600), QUICK) == SMALL_FLEET_STAGES
    assert recommend(fleet(80), QUICK) is None


def test_too_small_is_said_in_a_sentence() -> None:
    found = preview(fleet(80), SMALL_FLEET_STAGES, QUICK, harms=())
    assert found.shortage is Shortage.TOO_SMALL
    assert found.reason.startswith("80 frames are too few for these margins: of harmless releases only ")
    assert "let a person decide" in found.reason
    assert dict(found.values)["metric"] in (COMPLETION, COMPLAINT)
    assert preview(fleet(2300), SMALL_FLEET_STAGES, QUICK, harms=()).reason == ""


def test_a_margin_without_history_and_a_rollout_without_control_are_named() -> None:
    wants = (Stage(0.2, 24, {LATENCY: 0.05}), Stage(1.0, 24))
    found = preview(fleet(600), wants, QUICK)
    assert (found.shortage, found.enough) == (Shortage.NO_HISTORY, False)
    assert "latency" in found.reason
    assert preview(fleet(600), (Stage(1.0, 24),), QUICK).shortage is Shortage.NO_CONTROL


def test_harm_is_forecast_sooner_the_larger_it_is() -> None:
    harms = ((COMPLETION, -0.03), (COMPLETION, -0.06), (POWER, 0.2), (COMPLAINT, 2.5), (COMPLAINT, 6.0))
    found = preview(fleet(2300), STAGES, QUICK, harms=harms).harms
    hours = [harm.hours_median or np.inf for harm in found]
    assert hours[0] > hours[1]
    assert hours[3] > hours[4]
    assert found[2].rolled_back == 1.0


def test_a_harmless_release_is_seldom_rolled_back_in_rehearsal() -> None:
    """Alpha is 5 %; of 200 rehearsals 18 or more would have a chance of 1 %."""
    found = rehearse(fleet(2300), STAGES, POLICY, {}, 200, 3)
    assert np.isfinite(found.rolled_back_h).sum() <= 17
    assert not (np.isfinite(found.rolled_back_h) & np.isfinite(found.opened_h[:, -1])).any()


def test_the_same_question_has_the_same_answer() -> None:
    first, again = (preview(fleet(2300), SMALL_FLEET_STAGES, QUICK, seed=4, harms=()) for _ in range(2))
    assert first == again


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="ascending"):
        preview(fleet(600), (STAGES[1], STAGES[0]), QUICK)
    with pytest.raises(ValueError, match="Four days"):
        learn(table(1, 100, 3), QUICK)
