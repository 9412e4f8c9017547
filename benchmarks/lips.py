"""Lip errors and cost of the committed bundle, measured here and now."""

import json
from pathlib import Path
from typing import Final

import numpy as np

from device_agent import adapters
from device_agent.bundle import Bundle
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph

ARTIFACTS: Final = Path(__file__).parents[1] / "reference_model" / "artifacts"
BUNDLE: Final = ARTIFACTS / "talking-portrait-1.0.bundle"
ADAPTER: Final = ARTIFACTS / "mandarin.adapter"
WHAT: Final = (
    "lip errors are against rule-based visemes on synthetic speech: the bundle's golden clips,\n"
    "sentences held out of training, with the segment's mean pose beside."
)


def measure() -> dict[str, float]:
    """Figures by key: lip_mm_* in mm, gflop_per_frame."""
    with Bundle.open(BUNDLE) as bundle, StageGraph(bundle) as graph:
        plain = _errors(bundle, graph)
        graph.set_adapter(adapters.load(ADAPTER, bundle.sha256, bundle.manifest.adapter))
        adapted = _errors(bundle, graph)
        mean_pose = np.array(bundle.manifest.motion.mean_pose, np.float32)
        resting: dict[str, list[np.ndarray]] = {}
        for clip in bundle.golden_clips():
            resting.setdefault(clip.segment, []).append(np.abs(mean_pose - clip.expected))
        return {
            "lip_mm_heldout": plain["base"],
            "lip_mm_mandarin_adapted": adapted["mandarin"],
            "lip_mm_base_adapted": adapted["base"],
            "lip_mm_mean_pose": _mean(resting["base"]),
            "lip_mm_mandarin_base_model": plain["mandarin"],
            "lip_mm_mandarin_mean_pose": _mean(resting["mandarin"]),
            "gflop_per_frame": _gflop(bundle),
        }


def _errors(bundle: Bundle, graph: StageGraph) -> dict[str, float]:
    """Mean absolute difference in mm per segment, over all steps of its clips and all parameters."""
    errors: dict[str, list[np.ndarray]] = {}
    for clip in bundle.golden_clips():
        errors.setdefault(clip.segment, []).append(np.abs(motion_for(graph, clip.audio) - clip.expected))
    return {segment: _mean(parts) for segment, parts in errors.items()}


def _mean(parts: list[np.ndarray]) -> float:
    return round(float(np.concatenate(parts).mean(dtype=np.float64)), 3)


def _gflop(bundle: Bundle) -> float:
    """Counted from the graph when the bundle was built; refused when the report is of another bundle."""
    report = json.loads((ARTIFACTS / "report.json").read_bytes())
    if report["bundle_sha256"] != bundle.sha256:
        raise SystemExit("reference_model/artifacts/report.json belongs to another bundle: build the model again.")
    cost: float = report["gflop_per_frame"]
    return round(cost, 4)
