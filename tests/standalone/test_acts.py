"""What the demonstration tells of a rollout comes from the engine's own trail, and nobody may have helped it."""

from typing import Any

import pytest

from standalone.acts import hours, line, told_by
from standalone.frames import people_clock
from standalone.processes import ServiceError
from standalone.summary import (
    bad_act,
    expected_of,
    frames_on,
    good_act,
    others_changed,
    previewed,
    said,
    stages_of,
)


def at(hour: float) -> str:
    return f"2026-09-{1 + int(hour // 24):02d}T{int(hour % 24):02d}:{int(hour % 1 * 60):02d}:00Z"


def look(decision: str, reason: str, metrics: list[str], stage: int = 1) -> dict[str, Any]:
    asked = {"margin": 0.05, "log_term": -1.0, "low": -0.01, "high": 0.03, "canary_n": 1200, "control_n": 9000}
    return {
        "id": stage,
        "stage": stage,
        "decision": decision,
        "reason": reason,
        "metrics": metrics,
        "evidence": {
            "metrics": [
                {"name": "completion", "estimate": 0.0101234, "log_e_noninferior": 9.0, **asked},
                {"name": "complaint", "estimate": 0.5, "log_e_noninferior": 3.1, **asked},
                {"name": "dark", "estimate": None, "log_e_noninferior": None, **asked, "margin": None},
            ]
        },
    }


def event(hour: float, kind: str, actor: str = "engine", **detail: Any) -> dict[str, Any]:
    return {"at": at(hour), "actor": actor, "kind": kind, "reason": "", "detail": detail}


def rollout(state: str, *events: dict[str, Any]) -> dict[str, Any]:
    opened = [{"share": share, "opened_at": at(hour)} for share, hour in ((0.1, 0), (0.25, 50), (1.0, 110))]
    began = event(0, "started", "ops")
    return {
        "id": 2,
        "state": state,
        "began_at": at(0),
        "ended_at": at(122),
        "events": list(reversed([began, *events])),
        "stages": opened,
    }


PROMOTED = rollout(
    "succeeded",
    event(0, "stage_opened"),
    event(50, "stage_opened", look=look("promote", "harmless", [])),
    event(110, "stage_opened", look=look("promote", "harmless", [], stage=2)),
    event(122, "succeeded"),
)
ROLLED_BACK = rollout(
    "rolled_back",
    event(0, "stage_opened"),
    event(30.5, "rolling_back", look=look("rollback", "harm", ["complaint"])),
    event(33, "rolled_back"),
)


def test_a_promotion_is_told_with_its_evidence_and_the_metric_that_was_shown_last() -> None:
    told = told_by(PROMOTED)
    assert (told["verdict"], told["by"], told["hours_simulated"]) == ("PROMOTE", "engine", 110.0)
    assert told["reason_metric"] == "complaint"
    assert told["evidence"]["completion"]["estimate"] == 0.01012
    assert told["evidence"]["complaint"]["harmless_e"] == 22.2
    assert [one["hours_simulated"] for one in told["looks_that_decided"]] == [50.0, 110.0]


def test_a_rollback_names_the_metric_that_showed_harm() -> None:
    told = told_by(ROLLED_BACK)
    assert (told["verdict"], told["reason"], told["reason_metric"]) == ("ROLLBACK", "harm", "complaint")
    assert told["hours_simulated"] == 30.5
    assert said("1.2", told) == "1.2: ROLLBACK by the engine after 30.5 of people's hours, harm (complaint)."


def test_a_rollout_that_a_person_helped_is_not_told_as_the_engines() -> None:
    helped = rollout("rolled_back", *ROLLED_BACK["events"][:0], event(5, "advanced", "ops"), *ROLLED_BACK["events"][:3])
    with pytest.raises(ServiceError, match="was helped by ops: advanced"):
        told_by(helped)


def test_an_end_without_a_verdict_is_told_as_that() -> None:
    with pytest.raises(ServiceError, match="ended as succeeded without a verdict"):
        told_by(rollout("succeeded", event(0, "stage_opened"), event(5, "succeeded")))


def test_stages_are_told_in_peoples_hours_and_real_seconds() -> None:
    stages = stages_of(PROMOTED, day_seconds=24.0)
    assert [(stage["share"], stage["hours"], stage["seconds"]) for stage in stages] == [
        (0.1, 50.0, 50.0),
        (0.25, 60.0, 60.0),
        (1.0, 12.0, 12.0),
    ]


def test_a_look_is_one_line_with_what_it_saw() -> None:
    metric = {"name": "completion", "estimate": 0.041, "low": 0.012, "high": 0.07}
    verdict = {
        "stage": 1,
        "sentence": "Hold: not enough evidence yet about complaint.",
        "evidence": 0.51,
        "needed": 20.0,
        "metrics": [metric, {"name": "dark", "estimate": None, "low": None, "high": None}],
        "exposure": {"frames": 101},
    }
    told = line(PROMOTED, verdict, 48.2)
    assert "48 h  stage 1 (10 %)  Hold: not enough evidence yet about complaint." in told
    assert "evidence of harm 0.51 of 20; 101 frames have played it" in told
    assert "completion +4.10 points [+1.20, +7.00]" in told


def test_what_changed_is_counted_by_release_and_slot() -> None:
    def frame(release: str, slot: str) -> dict[str, Any]:
        return {"release_name": release, "reported": {"slot": slot}}

    before = {"a": frame("p 1.0", "A"), "b": frame("p 1.0", "A"), "c": frame("p 1.0", "A")}
    after = {"a": frame("p 1.1", "B"), "b": frame("p 1.0", "B"), "c": frame("p 1.0", "A")}
    assert frames_on(after, {"a", "b"}, "p 1.1") == 1
    assert others_changed(before, after, {"a"}) == 1


def reporting(release: str, slot: str, mandarin: float, *, simulated: bool = True) -> dict[str, Any]:
    lips = [{"segment": "mandarin", "lip_mm": mandarin, "mean_pose_mm": 1.5}]
    lips += [{"segment": "base", "lip_mm": 0.3, "mean_pose_mm": 1.4}]
    return {"release_name": release, "simulated": simulated, "reported": {"slot": slot, "lip_errors": lips}}


def test_the_last_line_holds_both_acts() -> None:
    before = {"agent": reporting("p 1.0", "A", 0.65, simulated=False), "en-1": reporting("p 1.0", "A", 0.65)}
    after = before | {"agent": reporting("p 1.1", "B", 0.24, simulated=False)}
    good = good_act(before, after, {"agent"}, PROMOTED | {"release": "p 1.1"}, 24.0)
    assert (good["good_verdict"], good["group_on_1_1"], good["others_changed"]) == ("PROMOTE", 1, 0)
    assert (good["lip_mm"]["mandarin_before"], good["lip_mm"]["mandarin_after"]) == (0.65, 0.24)
    back = ROLLED_BACK | {"release": "p 1.2", "returned": 2, "returning": 0}
    bad = bad_act(after, after, back, reporting("p 1.2", "A", 0.7), 24.0)
    assert bad["bad_verdict"] == bad["bad"]["verdict"] == "ROLLBACK"
    assert (bad["bad"]["frames_that_had_it"], bad["bad"]["frames_on_it_now"], bad["bad"]["not_as_before"]) == (2, 0, 0)
    assert bad["bad"]["mandarin_lip_mm"] == 0.7


def test_peoples_clock_begins_at_a_midnight() -> None:
    clock = people_clock(1_795_285_588_771, 60, 18.0)
    assert clock.start_ms % 86_400_000 == 0
    assert 60 <= clock.days_ago < 61
    assert hours(at(1), at(2.5)) == 1.5


def test_a_preview_says_whom_it_reaches_and_how_long_it_would_take() -> None:
    stage = {"number": 1, "share": 0.1, "canaries": 115, "controls": 863}
    forecast = {"hours_median": 99.6, "hours_high": 130.2, "promoted": 0.99, "enough": True, "warning": ""}
    preview = {"frames": 1151, "excluded": [{"frames": 2}], "stages": [stage], "forecast": forecast}
    assert previewed(preview).splitlines() == [
        "Preview: 1151 frames, 2 left out",
        "  stage 1 (10 %): 115 frames have it, 863 to compare with",
        "  A harmless release would take 100 of people's hours, 9 of 10 within 130 h.",
    ]
    assert expected_of(preview | {"forecast": None})["hours_median"] is None
