"""`make rknn`: the bundle's motion graph as INT8 for the RK3588's NPU, checked in the converter's simulator.

The graph is calibrated with steps of half of the golden clips, run without an adapter and with those of COHORTS that
calibrate; what is measured is measured on the other half. Only when the check passes is anything written: the bundle
with both graphs, the adapters bound to it, the report's hashes, and rknn.json. The same inputs give the same bytes, so
a second run changes nothing.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from device_agent.adapters import Adapter, AdapterError, load, rebind
from device_agent.bundle import Bundle, BundleError
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph
from device_agent.storage.files import replace_file
from reference_model.cohorts import COHORTS, NOISY_MICROPHONE, UNSEEN
from reference_model.conversion import (
    FILLED_MEMORY,
    IN_FLOAT16,
    LOG_LEVEL,
    PLATFORM,
    ConversionError,
    RecordingRuntime,
    Simulator,
    convert,
)
from reference_model.corpus import as_16_bit
from reference_model.measuring import Sound, golden_sounds, mean_difference, motions
from reference_model.microphone import through_poor_microphone
from reference_model.packing import BUNDLE_FILE, REPORT_FILE
from reference_model.repacking import with_graph

TOOLKIT = "rknn-toolkit2"
GRAPH_FILE = f"motion.{PLATFORM}.rknn"
RESULT_FILE = "rknn.json"
MAX_DELTA_MM = 0.02
# Neighbouring steps are much alike; every seventh of the calibration's clips is some hundred steps.
_EVERY = 7
_MODE = 0o644
_NO_ADAPTER = "none"
_ABOUT = (
    "Mean lip error on ONNX Runtime in float32 and in the converter's simulator on a PC, on golden clips that the"
    " calibration never heard; delta_mm is their difference, between_mm how far their lips are apart."
    " A simulator says nothing about an NPU's speed, power or memory."
)

Sounds = dict[str, tuple[Sound, ...]]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reference_model.rknn", description=__doc__)
    folder = Path(__file__).parent / "artifacts"
    parser.add_argument("--artifacts", type=Path, default=folder, help="where bundle, adapters and report lie")
    options = parser.parse_args(arguments)
    for name, value in (FILLED_MEMORY, LOG_LEVEL):
        if os.environ.get(name) != value:
            # Both are read when a process starts.
            command = [sys.executable, "-m", "reference_model.rknn", "--artifacts", str(options.artifacts)]
            os.execve(sys.executable, command, {**os.environ, **dict((FILLED_MEMORY, LOG_LEVEL))})  # noqa: S606
    try:
        import rknn.api  # noqa: F401
    except ImportError:
        print(f"Converting needs {TOOLKIT} in an environment of its own; run 'make rknn'.", file=sys.stderr)
        return 2
    try:
        return run(options.artifacts)
    except (BundleError, AdapterError, ConversionError) as error:
        print(error, file=sys.stderr)
        return 1


def run(artifacts: Path) -> int:
    """Convert, check, and write; 1 where the check failed and nothing was written.

    Raises BundleError, AdapterError or ConversionError.
    """
    started = time.monotonic()
    with (
        Bundle.open(artifacts / BUNDLE_FILE) as bundle,
        tempfile.TemporaryDirectory(prefix="framefleet-rknn-") as workspace,
    ):
        loaded = _load(artifacts, bundle)
        heard, measured = _split(golden_sounds(bundle))
        recorded = _record(bundle, loaded, heard, Path(workspace))
        onnx = bundle.graph("motion", "onnx")
        simulator = convert(bundle.manifest.stage("motion"), onnx, recorded.dataset())
        print(f"[{time.monotonic() - started:4.0f} s] converted with {len(recorded.lines)} steps", flush=True)
        table = _compare(bundle, loaded, measured, simulator)
    print(_as_text(table))
    # The worst over everybody it is tried on, not its own people alone: errors that cancel out prove nothing.
    delta = max(abs(row["delta_mm"]) for row in table[UNSEEN].values())
    if delta > MAX_DELTA_MM:
        print(f"INT8 changes {UNSEEN} by {delta:.4f} mm; at most {MAX_DELTA_MM} mm is allowed.", file=sys.stderr)
        return 1
    hashes = _write(artifacts, simulator.graph)
    result = {
        "rknn_delta_mm": delta,
        "allowed_mm": MAX_DELTA_MM,
        "about": _ABOUT,
        "unseen_adapter": UNSEEN,
        "lip_error_mm": table,
        "clips": {segment: len(sounds) for segment, sounds in measured.items()},
        "calibration": {
            "adapters": [_NO_ADAPTER, *(cohort.name for cohort in COHORTS if cohort.calibrates)],
            "clips": {segment: len(sounds) for segment, sounds in heard.items()},
            "steps": len(recorded.lines),
        },
        "operators": {"total": simulator.operators.total, "on_cpu": simulator.operators.on_cpu},
        "in_float16": IN_FLOAT16,
        "bytes": {"onnx": len(onnx), "rknn": len(simulator.graph)},
        "onnx_sha256": hashlib.sha256(onnx).hexdigest(),
        "rknn_sha256": hashlib.sha256(simulator.graph).hexdigest(),
        **hashes,
        "platform": PLATFORM,
        "converter": f"{TOOLKIT} {version(TOOLKIT)}",
    }
    replace_file(artifacts / RESULT_FILE, _as_json(result), _MODE)
    print(f"[{time.monotonic() - started:4.0f} s] rknn_delta_mm {delta:.4f}, {len(simulator.graph)} bytes of INT8")
    return 0


def _write(artifacts: Path, graph: bytes) -> dict[str, object]:
    """Write the adapters, the report and, last, the bundle that they are bound to. Gives the hashes they have now."""
    content = with_graph(artifacts / BUNDLE_FILE, "motion", "rknn", GRAPH_FILE, graph)
    bundle_sha256 = hashlib.sha256(content).hexdigest()
    files = {cohort: rebind((artifacts / cohort.file).read_bytes(), bundle_sha256) for cohort in COHORTS}
    report = json.loads((artifacts / REPORT_FILE).read_text())
    report["bundle_sha256"] = bundle_sha256
    for cohort, file in files.items():
        report["adapters"][cohort.name]["sha256"] = hashlib.sha256(file).hexdigest()
        replace_file(artifacts / cohort.file, file, _MODE)
    replace_file(artifacts / REPORT_FILE, _as_json(report), _MODE)
    replace_file(artifacts / BUNDLE_FILE, content, _MODE)
    return {
        "bundle_sha256": bundle_sha256,
        "adapters_sha256": {name: entry["sha256"] for name, entry in report["adapters"].items()},
    }


def _load(artifacts: Path, bundle: Bundle) -> dict[str, Adapter | None]:
    """No adapter, then those of COHORTS, by name."""
    found: dict[str, Adapter | None] = {_NO_ADAPTER: None}
    for cohort in COHORTS:
        found[cohort.name] = load(artifacts / cohort.file, bundle.sha256, bundle.manifest.adapter)
    return found


def _split(golden: Sounds) -> tuple[Sounds, Sounds]:
    """Half of each segment's clips to calibrate with, the others to measure, also through the poor microphone."""
    heard = {segment: sounds[: len(sounds) // 2] for segment, sounds in golden.items()}
    measured = {segment: sounds[len(sounds) // 2 :] for segment, sounds in golden.items()}
    measured[NOISY_MICROPHONE.segment] = tuple(
        Sound(as_16_bit(through_poor_microphone(sound.samples)), sound.expected) for sound in measured["base"]
    )
    return heard, measured


def _record(bundle: Bundle, loaded: Mapping[str, Adapter | None], heard: Sounds, workspace: Path) -> RecordingRuntime:
    recorder = RecordingRuntime(bundle, workspace, _EVERY)
    calibrating = [None, *(loaded[cohort.name] for cohort in COHORTS if cohort.calibrates)]
    with StageGraph(bundle, lambda _: recorder) as graph:
        graph.load()
        for adapter in calibrating:
            graph.set_adapter(adapter)
            for sounds in heard.values():
                for sound in sounds:
                    motion_for(graph, sound.samples)
    return recorder


def _compare(
    bundle: Bundle, loaded: Mapping[str, Adapter | None], measured: Sounds, simulator: Simulator
) -> dict[str, dict[str, dict[str, float]]]:
    """Per adapter and segment: lip error on ONNX Runtime and in the simulator, and how far their lips are apart."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    with StageGraph(bundle) as exact, StageGraph(bundle, lambda _: simulator) as quantised:
        for name, adapter in loaded.items():
            exact.set_adapter(adapter)
            quantised.set_adapter(adapter)
            table[name] = {segment: _row(exact, quantised, sounds) for segment, sounds in measured.items()}
    return table


def _row(exact: StageGraph, quantised: StageGraph, sounds: Sequence[Sound]) -> dict[str, float]:
    expected = [sound.expected for sound in sounds]
    by_ort, by_rknn = motions(exact, sounds), motions(quantised, sounds)
    ort, rknn = mean_difference(by_ort, expected), mean_difference(by_rknn, expected)
    return {
        "ort_mm": ort,
        "rknn_mm": rknn,
        "delta_mm": round(rknn - ort, 4),
        "between_mm": mean_difference(by_ort, by_rknn),
    }


def _as_text(table: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    lines = [f"{'adapter':<18} {'segment':<18} {'ORT':>7} {'INT8':>7} {'delta':>8} {'between':>8}   (mm)"]
    for name, rows in table.items():
        for segment, row in rows.items():
            figures = f"{row['ort_mm']:7.3f} {row['rknn_mm']:7.3f} {row['delta_mm']:+8.4f} {row['between_mm']:8.4f}"
            lines.append(f"{name:<18} {segment:<18} {figures}")
    return "\n".join(lines)


def _as_json(content: object) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


if __name__ == "__main__":
    sys.exit(main())
