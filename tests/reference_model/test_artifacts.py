"""The committed files are what the committed report says they are."""

import hashlib
import json
import re
import wave
from typing import Any

import numpy as np
import pytest

from device_agent.adapters.peft import pack_peft, write_peft
from device_agent.bundle.manifest import FloatArray
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph
from reference_model.cohorts import COHORTS, MANDARIN_CARELESS
from reference_model.measuring import golden_sounds, lip_error, resting_error
from reference_model.shape import ADAPTER_SIGNATURE, INPUTS, LAYERS, OUTPUT_SPECS, RANK, SLOTS, WIDTH, WINDOW
from reference_model.sources import FACE_DETECTOR, FACE_MESH, PORTRAIT
from tests.reference_model.artifacts import ASSETS, BUNDLE, FOLDER, adapter, bundle, graph, mandarin

CARELESS = MANDARIN_CARELESS.name


def mean_pose() -> FloatArray:
    return np.array(bundle().manifest.motion.mean_pose, dtype=np.float32)


@pytest.fixture(scope="module")
def report() -> Any:
    return json.loads((FOLDER / "report.json").read_text())


def test_the_report_is_about_these_files(report: Any) -> None:
    assert report["bundle_sha256"] == hashlib.sha256(BUNDLE.read_bytes()).hexdigest()
    assert set(report["adapters"]) == {cohort.name for cohort in COHORTS}
    for cohort in COHORTS:
        loaded = adapter(cohort.name)
        assert (loaded.name, loaded.segment) == (cohort.name, cohort.segment)
        assert loaded.sha256 == report["adapters"][cohort.name]["sha256"]


@pytest.mark.parametrize("name", [None, "mandarin", "whisper", "mandarin-careless"])
def test_measuring_again_gives_the_report_s_numbers(report: Any, name: str | None) -> None:
    graph().set_adapter(adapter(name) if name else None)
    try:
        for segment, sounds in golden_sounds(bundle()).items():
            reported = report["golden_mm"][segment]
            assert lip_error(graph(), sounds) == pytest.approx(reported[name or "base_model"], abs=2e-3)
            assert resting_error(mean_pose(), sounds) == pytest.approx(reported["mean_pose"], abs=2e-3)
    finally:
        graph().set_adapter(None)


def test_each_adapter_helps_its_own_people(report: Any) -> None:
    for cohort in COHORTS:
        row = report["lip_error_mm"][cohort.segment]
        assert row[cohort.name] < 0.92 * row["base_model"] < row["mean_pose"]
    assert report["lip_error_mm"]["mandarin"]["mandarin"] <= 0.34


def test_adapters_trained_with_base_sentences_hardly_hurt_the_rest(report: Any) -> None:
    errors = report["lip_error_mm"]["base"]
    assert errors["base_model"] <= 0.30
    assert all(errors[cohort.name] <= 0.36 for cohort in COHORTS if cohort.base_mixed_in)


def test_the_base_model_and_every_careful_adapter_pass_the_golden_clips(report: Any) -> None:
    for row in report["golden_mm"].values():
        assert row["base_model"] < row["limit"]
        assert all(row[cohort.name] < row["limit"] for cohort in COHORTS if cohort.base_mixed_in)


def test_the_careless_adapter_is_stopped_by_the_base_segment_alone(report: Any) -> None:
    too_far = {segment for segment, row in report["golden_mm"].items() if row[CARELESS] > row["limit"]}
    assert too_far == {"base"}
    assert report["golden_mm"]["base"][CARELESS] > 1.1 * report["golden_mm"]["base"]["limit"]


def test_a_step_costs_what_its_layers_cost(report: Any) -> None:
    layers = sum(slot.inputs * slot.outputs + RANK * (slot.inputs + slot.outputs) for slot in SLOTS)
    attention = LAYERS * 2 * WINDOW * WIDTH
    assert report["gflop_per_frame"] == pytest.approx(2 * (layers + attention) / 1e9, rel=0.01)


def test_a_trained_adapter_survives_the_way_through_peft() -> None:
    """What an engineer unpacks to look at, and packs again, is the adapter that was there."""
    signature = bundle().manifest.adapter
    before = adapter("whisper")
    weights, config = write_peft(before.tensors, signature)
    again = pack_peft(
        weights, config, base_model=bundle().sha256, signature=signature, name=before.name, segment=before.segment
    )
    assert again == (FOLDER / "whisper.adapter").read_bytes()


def test_the_exported_steps_answered_like_the_trained_model(report: Any) -> None:
    assert max(report["graph_against_torch_mm"].values()) < 1e-3


def test_the_bundle_declares_the_reference_model_s_shapes() -> None:
    manifest = bundle().manifest
    assert manifest.stage("motion").inputs == INPUTS
    assert manifest.stage("motion").outputs == OUTPUT_SPECS
    assert manifest.adapter == ADAPTER_SIGNATURE


def test_third_party_files_are_the_pinned_ones() -> None:
    for pinned, content in (
        (FACE_DETECTOR, bundle().face_detector()),
        (FACE_MESH, bundle().face_mesh()),
        (PORTRAIT, (ASSETS / "portrait.png").read_bytes()),
    ):
        assert hashlib.sha256(content).hexdigest() == pinned.sha256
        assert pinned.sha256 in (FOLDER.parent / "THIRD_PARTY.md").read_text()


def test_the_files_are_small_and_say_nothing_about_where_they_were_made() -> None:
    assert BUNDLE.stat().st_size < 15_000_000
    for path in FOLDER.iterdir():
        assert not re.search(rb"/(home|root|tmp|work|Users)/|site-packages", path.read_bytes())


@pytest.mark.parametrize("name", ["voice-en.wav", "voice-zh.wav"])
def test_the_demo_voices_move_the_lips(name: str) -> None:
    with wave.open(str(ASSETS / name)) as voice:
        assert (voice.getnchannels(), voice.getsampwidth(), voice.getframerate()) == (1, 2, 16_000)
        frames = voice.readframes(voice.getnframes())
    samples = np.asarray(np.frombuffer(frames, "<i2") / 32768, dtype=np.float32)
    assert 4.0 < samples.size / 16_000 < 6.0
    stages = StageGraph(bundle())
    before = motion_for(stages, samples)
    stages.set_adapter(mandarin())
    after = motion_for(stages, samples)
    assert before[:, 0].max() > 6
    assert np.abs(after - before).mean() > 0.05
