"""The committed files are what the committed report says they are."""

import hashlib
import json
import re
import wave
from typing import Any

import numpy as np
import pytest

from device_agent.golden import evaluate
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph
from reference_model.shape import ADAPTER_SIGNATURE, INPUTS, OUTPUT_SPECS
from reference_model.sources import FACE_DETECTOR, FACE_MESH, PORTRAIT
from tests.reference_model.artifacts import ADAPTER, ASSETS, BUNDLE, FOLDER, bundle, mandarin


@pytest.fixture(scope="module")
def report() -> Any:
    return json.loads((FOLDER / "report.json").read_text())


def test_the_report_is_about_these_files(report: Any) -> None:
    assert report["bundle_sha256"] == hashlib.sha256(BUNDLE.read_bytes()).hexdigest()
    assert report["adapter_sha256"] == hashlib.sha256(ADAPTER.read_bytes()).hexdigest()
    assert mandarin().base_model == report["bundle_sha256"]


def test_measuring_again_gives_the_report_s_numbers(report: Any) -> None:
    for label, adapter in (("base_model", None), ("with_mandarin_adapter", mandarin())):
        for result in evaluate(bundle(), adapter).segments:
            reported = report["golden"][label][result.segment]
            assert result.lip_mm == pytest.approx(reported["lip_mm"], abs=2e-3)
            assert result.mean_pose_mm == pytest.approx(reported["mean_pose_mm"], abs=2e-3)


def test_the_adapter_helps_on_all_held_out_mandarin_and_hardly_hurts_the_rest(report: Any) -> None:
    errors = report["lip_error_mm"]
    assert errors["mandarin"]["with_mandarin_adapter"] <= 0.36 < errors["mandarin"]["base_model"]
    assert errors["base"]["with_mandarin_adapter"] <= 0.38
    for row in errors.values():
        assert row["base_model"] < row["mean_pose"]


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
    assert BUNDLE.stat().st_size < 14_000_000
    for path in (BUNDLE, ADAPTER, FOLDER / "report.json"):
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
