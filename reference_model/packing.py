"""Writing bundles: the same members always give the same bytes. Needs neither torch nor espeak-ng."""

import hashlib
import io
import wave
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from device_agent.bundle import MANIFEST
from device_agent.bundle.manifest import (
    FORMAT,
    AudioSpec,
    FaceWeights,
    FileEntry,
    FloatArray,
    GoldenClipSpec,
    GoldenSpec,
    Manifest,
    MotionParameter,
    MotionSpec,
    Stage,
    State,
    TrialLimits,
)
from device_agent.pipeline.features import COEFFICIENTS, HOPS_PER_STEP, SAMPLE_RATE, STEP_SAMPLES
from reference_model.shape import ADAPTER_SIGNATURE, INPUTS, LOOK_AHEAD_STEPS, OUTPUT_SPECS
from reference_model.visemes import PARAMETERS

BUNDLE_FILE = "talking-portrait-1.0.bundle"
REPORT_FILE = "report.json"
GRAPH = "motion.onnx"
DETECTOR = "face_detector.tflite"
MESH = "face_mesh.tflite"
PORTRAIT = "golden/portrait.png"
# A step that takes longer than the sound it covers cannot be played.
STEP_LIMIT_MS = 40.0
# The motion graph with its session; what a frame may spend on a bundle's graphs; what rendering may take in all.
MOTION_MEMORY_MB = 40
BUDGET_MB = 64
MEMORY_LIMIT_MB = 400.0
# The oldest time a zip can carry: a bundle must not depend on when it was made.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class GoldenSource:
    """A golden clip before packing: samples in [-1, 1] and targets (steps, 6) in mm."""

    segment: str
    samples: FloatArray
    targets: FloatArray


def write_zip(members: Mapping[str, bytes]) -> bytes:
    """An uncompressed zip with fixed times, members in the given order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, _ZIP_TIME)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def wav_bytes(samples: FloatArray) -> bytes:
    """Mono 16 kHz 16-bit WAV of samples in [-1, 1]."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.clip(np.round(samples * 32768.0), -32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def pack_bundle(
    *,
    name: str,
    graph: bytes,
    detector: bytes,
    mesh: bytes,
    face_source: str,
    face_licence: str,
    mean_pose: FloatArray,
    golden: Sequence[GoldenSource],
    portrait: bytes,
    limits_mm: Mapping[str, float | None],
) -> bytes:
    """Put a trained model, the face weights and the golden clips into one bundle."""
    members = {GRAPH: graph, DETECTOR: detector, MESH: mesh, PORTRAIT: portrait}
    clips: list[GoldenClipSpec] = []
    counts: dict[str, int] = {}
    for source in golden:
        counts[source.segment] = counts.get(source.segment, 0) + 1
        stem = f"golden/{source.segment}-{counts[source.segment]}"
        members[f"{stem}.wav"] = wav_bytes(source.samples)
        members[f"{stem}.motion"] = np.ascontiguousarray(source.targets, dtype="<f4").tobytes()
        clips.append(
            GoldenClipSpec(
                segment=source.segment, wav=f"{stem}.wav", expected=f"{stem}.motion", steps=len(source.targets)
            )
        )
    manifest = Manifest(
        format=FORMAT,
        name=name,
        memory_mb=BUDGET_MB,
        stages=(
            Stage(
                name="motion",
                graphs={"onnx": GRAPH},
                inputs=INPUTS,
                outputs=OUTPUT_SPECS,
                states=(State(input="kv_in", output="kv_out"),),
                memory_mb=MOTION_MEMORY_MB,
            ),
        ),
        audio=AudioSpec(
            sample_rate=SAMPLE_RATE,
            step_samples=STEP_SAMPLES,
            hops_per_step=HOPS_PER_STEP,
            coefficients=COEFFICIENTS,
            look_ahead_steps=LOOK_AHEAD_STEPS,
        ),
        motion=MotionSpec(
            parameters=tuple(MotionParameter(name=key, minimum=low, maximum=high) for key, low, high in PARAMETERS),
            mean_pose=tuple(round(float(value), 4) for value in mean_pose),
        ),
        adapter=ADAPTER_SIGNATURE,
        golden=GoldenSpec(
            clips=tuple(clips),
            portrait=PORTRAIT,
            limits=TrialLimits(lip_mm=dict(limits_mm), step_p99_ms=STEP_LIMIT_MS, memory_mb=MEMORY_LIMIT_MB),
        ),
        face=FaceWeights(detector=DETECTOR, mesh=MESH, source=face_source, licence=face_licence),
        files={
            key: FileEntry(length=len(content), sha256=hashlib.sha256(content).hexdigest())
            for key, content in members.items()
        },
    )
    return write_zip({MANIFEST: msgspec.json.format(msgspec.json.encode(manifest), indent=1), **members})
