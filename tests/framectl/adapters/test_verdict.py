import pytest

from framectl.adapters.verdict import SegmentErrors, judge


def said(lip_mm: float, limit_mm: float | None, *, own: bool = False, golden: bool = True) -> str:
    errors = SegmentErrors("base", clips=4, steps=200, mean_pose_mm=1.40, base_mm=0.30, adapter_mm=(lip_mm,))
    verdict = judge(errors, lip_mm, limit_mm, own=own, golden=golden)
    assert verdict.passed == (limit_mm is None or lip_mm <= limit_mm)
    return verdict.sentence


def test_over_a_limit_is_what_a_trial_stops() -> None:
    assert said(0.56, 0.45) == (
        "Worse by 0.26 mm on base (0.30 -> 0.56 mm), over its limit 0.45: a frame's trial would stop it."
    )


def test_worse_within_the_limit_is_what_only_the_gray_release_sees() -> None:
    assert said(0.40, 0.45) == (
        "Worse by 0.10 mm on base (0.30 -> 0.40 mm), within its limit 0.45: only the gray release can see it."
    )
    assert said(0.40, None).endswith("which has no limit: only the gray release can see it.")


def test_other_clips_or_limits_say_nothing_about_frames() -> None:
    assert said(0.56, 0.45, golden=False).endswith("a trial with these clips and limits would stop it.")


def test_better_is_said_and_no_change_is_said_of_its_own_segment_only() -> None:
    assert said(0.20, 0.45) == "Better by 0.10 mm on base (0.30 -> 0.20 mm)."
    assert said(0.304, 0.45) == ""
    assert said(0.304, 0.45, own=True) == "No better and no worse on base, its own segment (0.30 -> 0.30 mm)."


def test_a_limit_that_the_base_model_misses_too_is_still_a_limit() -> None:
    assert "over its limit 0.25" in said(0.30, 0.25)
    assert said(0.28, 0.25).startswith("Better by 0.02 mm")


@pytest.mark.parametrize("lip_mm", [1.40, 2.0])
def test_no_better_than_the_mean_pose_is_always_said(lip_mm: float) -> None:
    assert "no better than a mouth that never moves (1.40)" in said(lip_mm, None)
