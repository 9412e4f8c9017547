"""Lip errors and cost of the committed bundle, measured here and now."""

import hashlib
import json
from pathlib import Path
from typing import Final

import numpy as np

from device_agent import adapters
from device_agent.bundle import Bundle
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph
from reference_model.cost import gflop_per_step

ARTIFACTS: Final = Path(__file__).parents[1] / "reference_model" / "artifacts"
BUNDLE: Final = ARTIFACTS / "talking-portrait-1.0.bundle"
ADAPTER: Final = ARTIFACTS / "mandarin.adapter"
WHAT: Final = (
    "lip errors are against rule-based visemes on synthetic speech: the bundle's golden clips,\n"
    "sentences held out of training, with the segment's mean pose beside."
)


def measure() -> dict[str, float]:
    """Figures by key: lip_mm_* and rknn_delta_mm in mm, gflop_per_frame."""
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
            "gflop_per_frame": round(gflop_per_step(bundle.graph("motion", "onnx")), 4),
            "rknn_delta_mm": _rknn_delta(bundle),
        }


def _errors(bundle: Bundle, graph: StageGraph) -> dict[str, float]:
    """Mean absolute difference in mm per segment, over all steps of its clips and all parameters."""
    errors: dict[str, list[np.ndarray]] = {}
    for clip in bundle.golden_clips():
        errors.setdefault(clip.segment, []).append(np.abs(motion_for(graph, clip.audio) - clip.expected))
    return {segment: _mean(parts) for segment, parts in errors.items()}


def _mean(parts: list[np.ndarray]) -> float:
    return round(float(np.concatenate(parts).mean(dtype=np.float64)), 3)


def _rknn_delta(bundle: Bundle) -> float:
    """From the committed result of `make rknn`, whose simulator does not run here; it must be of this very graph."""
    try:
        result = json.loads((ARTIFACTS / "rknn.json").read_bytes())
    except FileNotFoundError:
        raise SystemExit("reference_model/artifacts/rknn.json is missing: run 'make rknn'.") from None
    if result["rknn_sha256"] != hashlib.sha256(bundle.graph("motion", "rknn")).hexdigest():
        raise SystemExit("reference_model/artifacts/rknn.json belongs to another graph: run 'make rknn' again.")
    delta: float = result["rknn_delta_mm"]
    return delta
