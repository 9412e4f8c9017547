"""The committed INT8 graph: what the simulator said about it, and that it is about these very files."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from reference_model.cohorts import COHORTS, UNSEEN
from reference_model.rknn import GRAPH_FILE, MAX_DELTA_MM
from tests.reference_model.artifacts import BUNDLE, FOLDER, adapter, bundle


@pytest.fixture(scope="module")
def result() -> Any:
    return json.loads((FOLDER / "rknn.json").read_text())


def test_the_result_is_about_these_files(result: Any) -> None:
    assert result["bundle_sha256"] == hashlib.sha256(BUNDLE.read_bytes()).hexdigest()
    assert result["adapters_sha256"] == {cohort.name: adapter(cohort.name).sha256 for cohort in COHORTS}
    for runtime in ("onnx", "rknn"):
        graph = bundle().graph("motion", runtime)
        assert hashlib.sha256(graph).hexdigest() == result[f"{runtime}_sha256"]
        assert len(graph) == result["bytes"][runtime]
    assert bundle().manifest.stage("motion").graphs["rknn"] == GRAPH_FILE


def test_int8_hardly_changes_an_adapter_that_calibration_never_saw(result: Any) -> None:
    assert result["unseen_adapter"] == UNSEEN
    assert UNSEEN not in result["calibration"]["adapters"]
    rows = result["lip_error_mm"][UNSEEN].values()
    assert result["rknn_delta_mm"] == max(abs(row["delta_mm"]) for row in rows) <= MAX_DELTA_MM


def test_every_adapter_was_checked_on_every_segment(result: Any) -> None:
    assert set(result["lip_error_mm"]) == {"none", *(cohort.name for cohort in COHORTS)}
    segments = {clip.segment for clip in bundle().manifest.golden.clips}
    for rows in result["lip_error_mm"].values():
        assert segments <= set(rows)
        for row in rows.values():
            assert row["delta_mm"] == pytest.approx(row["rknn_mm"] - row["ort_mm"], abs=1e-4)
            assert abs(row["delta_mm"]) <= MAX_DELTA_MM
            # Errors can cancel out, distance cannot: two sets of lips are never closer than their errors differ.
            assert abs(row["delta_mm"]) <= row["between_mm"] < 0.1


def test_only_inputs_outputs_and_their_shapes_stay_on_the_cpu(result: Any) -> None:
    operators = result["operators"]
    assert len(operators["on_cpu"]) <= 14 < operators["total"]
    kinds = {operator.split()[0] for operator in operators["on_cpu"]}
    assert kinds <= {"InputOperator", "OutputOperator", "Reshape", "Transpose"}


@pytest.mark.skipif(importlib.util.find_spec("rknn") is not None, reason="the converter is installed here")
def test_converting_without_the_converter_says_what_to_run() -> None:
    environment = {**os.environ, "MALLOC_PERTURB_": "255", "RKNN_LOG_LEVEL": "5"}
    done = subprocess.run(
        [sys.executable, "-m", "reference_model.rknn"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "make rknn" in done.stderr
    assert "Traceback" not in done.stderr
