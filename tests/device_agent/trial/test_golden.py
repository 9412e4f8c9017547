import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from device_agent.bundle import Bundle, BundleError
from device_agent.trial import golden
from device_agent.trial.golden import RETRIES, GoldenResult, evaluate
from tests.device_agent.graphs import small_bundle
from tests.device_agent.portrait import encoded
from tests.reference_model.artifacts import bundle, mandarin, with_manifest


@pytest.fixture(scope="module")
def before() -> GoldenResult:
    return evaluate(bundle())


@pytest.fixture(scope="module")
def after() -> GoldenResult:
    return evaluate(bundle(), mandarin())


def test_the_base_model_beats_the_mean_pose_on_every_segment(before: GoldenResult) -> None:
    for result in before.segments:
        assert result.lip_mm < 0.9 * result.mean_pose_mm
    assert before.segment("base").lip_mm <= 0.30


def test_the_base_model_is_worse_on_mandarin(before: GoldenResult) -> None:
    assert before.segment("mandarin").lip_mm > 1.5 * before.segment("base").lip_mm


def test_the_adapter_makes_mandarin_better(before: GoldenResult, after: GoldenResult) -> None:
    assert after.segment("mandarin").lip_mm < 0.36
    assert after.segment("mandarin").lip_mm < 0.6 * before.segment("mandarin").lip_mm


def test_the_adapter_keeps_the_base_segment_usable(after: GoldenResult) -> None:
    assert after.segment("base").lip_mm < 0.38


def test_both_pass_the_bundle_s_limits(before: GoldenResult, after: GoldenResult) -> None:
    assert before.passed
    assert after.passed
    assert before.failures == after.failures == ()


def test_the_mean_pose_does_not_depend_on_the_adapter(before: GoldenResult, after: GoldenResult) -> None:
    assert [result.mean_pose_mm for result in before.segments] == [result.mean_pose_mm for result in after.segments]


def test_a_step_is_timed(before: GoldenResult) -> None:
    assert 0 < before.step_p50_ms <= before.step_p99_ms
    assert before.step_p50_ms < 40


def test_a_trial_is_short() -> None:
    started = time.process_time()
    evaluate(bundle(), mandarin())
    assert time.process_time() - started < 2.0


def test_a_missed_limit_fails_the_trial_and_names_the_segment() -> None:
    strict = Bundle.open(with_manifest(lambda manifest: manifest["golden"]["limits"]["lip_mm"].update(mandarin=0.5)))
    result = evaluate(strict)
    assert not result.passed
    (sentence,) = result.failures
    assert "lip error on mandarin" in sentence
    assert "at most 0.50 mm" in sentence


def test_a_segment_without_a_limit_is_measured_and_passes() -> None:
    free = Bundle.open(with_manifest(lambda manifest: manifest["golden"]["limits"]["lip_mm"].update(mandarin=None)))
    result = evaluate(free).segment("mandarin")
    assert result.passed
    assert result.limit_mm is None
    assert result.lip_mm > 0


def test_steps_slower_than_allowed_fail_the_trial() -> None:
    hasty = Bundle.open(with_manifest(lambda manifest: manifest["golden"]["limits"].update(step_p99_ms=0.0001)))
    result = evaluate(hasty)
    assert not result.passed
    (sentence,) = result.failures
    assert "One step in a hundred takes" in sentence


def test_steps_that_were_slow_once_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = Bundle.open(with_manifest(lambda manifest: manifest["golden"]["limits"].update(step_p99_ms=30.0)))
    slow = iter([True])
    measure = golden._evaluate

    def busy_at_first(*given: Any) -> GoldenResult:
        result = measure(*given)
        return replace(result, step_p99_ms=99.0) if next(slow, False) else replace(result, step_p99_ms=2.0)

    monkeypatch.setattr(golden, "_evaluate", busy_at_first)
    result = evaluate(allowed)
    assert result.passed
    assert result.step_p99_ms == 2.0


def test_a_model_that_is_always_slow_or_spoils_lips_as_well_is_not_measured_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    measure = golden._evaluate

    def counted(*given: Any) -> GoldenResult:
        calls.append(given)
        return measure(*given)

    monkeypatch.setattr(golden, "_evaluate", counted)
    evaluate(Bundle.open(with_manifest(lambda manifest: manifest["golden"]["limits"].update(step_p99_ms=0.0001))))
    assert len(calls) == 1 + RETRIES
    calls.clear()
    bad = {"step_p99_ms": 0.0001, "lip_mm": dict.fromkeys(bundle().manifest.golden.limits.lip_mm, 0.01)}
    evaluate(Bundle.open(with_manifest(lambda manifest: manifest["golden"]["limits"].update(bad))))
    assert len(calls) == 1


def test_a_bundle_that_looks_at_the_photo_is_tried_with_its_own_portrait() -> None:
    result = evaluate(small_bundle())
    assert {part.segment for part in result.segments} == {part.segment for part in evaluate(bundle()).segments}


def test_a_bundle_whose_portrait_shows_no_face_is_refused() -> None:
    blank = small_bundle(portrait=encoded(np.full((256, 256, 3), 128, np.uint8)))
    with pytest.raises(BundleError, match=r"^The bundle's own portrait cannot be used: The photo shows no face"):
        evaluate(blank)
