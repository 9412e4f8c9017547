"""The bundle: the content of a `base_model` artifact, one uncompressed zip with a manifest.

A bundle holds the graphs of each stage, the face weights, and golden clips with the motion expected for them. Nothing
in it is trusted: `Bundle.open` checks the structure against the manifest before anything is used, and every member is
checked against its length and SHA-256 when it is read. Members are stored, never compressed, so a bundle cannot grow.
"""

import hashlib
import io
import math
import threading
import wave
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn, Self

import msgspec
import numpy as np
import numpy.typing as npt

FORMAT = 1
MANIFEST = "manifest.json"
MAX_BUNDLE_BYTES = 1 << 30
MAX_MEMBERS = 256
MAX_MANIFEST_BYTES = 256 * 1024
MAX_CLIP_SECONDS = 30
MAX_TENSOR_VALUES = 1 << 24

FloatArray = npt.NDArray[np.float32]


class BundleError(ValueError):
    """The bundle cannot be used; the message is one sentence that says why."""


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output of a graph. `layout` is "nchw" for four dimensions, "nd" otherwise."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32"] = "float32"
    layout: Literal["nd", "nchw"] = "nd"


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the pipeline: a graph per runtime ("onnx", later "rknn"), and its ordered inputs and outputs."""

    name: str
    graphs: dict[str, str]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input(self, name: str) -> TensorSpec:
        for spec in self.inputs:
            if spec.name == name:
                return spec
        raise BundleError(f"The stage {self.name} of this bundle has no input named {name}.")


class AudioSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the motion stage listens to; samples are mono float32 in [-1, 1]."""

    sample_rate: int
    step_samples: int
    hops_per_step: int
    coefficients: int
    look_ahead_steps: int


class MotionParameter(msgspec.Struct, frozen=True, kw_only=True):
    """One mouth parameter with the range the renderer must be able to draw."""

    name: str
    minimum: float
    maximum: float


class MotionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The motion that comes out: one value per parameter and step; `mean_pose` is the training set's mean."""

    parameters: tuple[MotionParameter, ...]
    mean_pose: tuple[float, ...]
    unit: Literal["mm"] = "mm"
    mouth_width_mm: float = 50.0


class AdapterTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One packed LoRA factor with the range of values the graphs were calibrated for."""

    name: str
    shape: tuple[int, int]
    minimum: float
    maximum: float
    dtype: Literal["float16"] = "float16"


class AdapterSignature(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter for this bundle must look like."""

    rank: int
    tensors: tuple[AdapterTensor, ...]


class GoldenClipSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A clip of a segment: a 16-bit WAV and the expected motion, float32 little-endian, (steps, parameters)."""

    segment: str
    wav: str
    expected: str
    steps: int


class GoldenSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The golden clips, the largest mean lip error allowed per segment (mm, or null) and the step time allowed."""

    clips: tuple[GoldenClipSpec, ...]
    limits_mm: dict[str, float | None]
    step_limit_ms: float


class FaceWeights(msgspec.Struct, frozen=True, kw_only=True):
    """The face models' files and where they come from."""

    detector: str
    mesh: str
    source: str
    licence: str


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Length in bytes and SHA-256 (hex) of one member."""

    length: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`."""

    format: int
    name: str
    stages: tuple[Stage, ...]
    audio: AudioSpec
    motion: MotionSpec
    adapter: AdapterSignature
    golden: GoldenSpec
    face: FaceWeights
    files: dict[str, FileEntry]

    def stage(self, name: str) -> Stage:
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise BundleError(f"This bundle has no stage named {name}.")


@dataclass(frozen=True)
class GoldenClip:
    """A clip ready to run: `audio` (samples,) float32 at the bundle's rate, `expected` (steps, parameters) in mm."""

    segment: str
    name: str
    audio: FloatArray
    expected: FloatArray


class _Member(NamedTuple):
    info: zipfile.ZipInfo
    entry: FileEntry


def _fail(sentence: str) -> NoReturn:
    raise BundleError(sentence)


class Bundle:
    """An opened bundle. Reading members is safe from several threads."""

    def __init__(self, archive: zipfile.ZipFile, source: Path | bytes, manifest: Manifest, members: dict[str, _Member]):
        self._archive = archive
        self._source = source
        self._members = members
        self._lock = threading.Lock()
        self.manifest = manifest

    @classmethod
    def open(cls, source: Path | str | bytes) -> Self:
        """Open and check a bundle given as a path or as bytes. Raises BundleError with one sentence."""
        if isinstance(source, str):
            source = Path(source)
        archive = _open_zip(source)
        try:
            infos = _member_infos(archive)
            manifest = _read_manifest(archive, infos)
            members = {
                name: _Member(infos[name], entry)
                for name, entry in manifest.files.items()
                if name in infos and infos[name].file_size == entry.length
            }
            for name in manifest.files:
                if name not in members:
                    _fail(f"The bundle's member {name} is missing or has another length than its manifest says.")
            for name in infos:
                if name != MANIFEST and name not in members:
                    _fail(f"The bundle has a member {name} that its manifest does not name.")
            _check_manifest(manifest)
        except BaseException:
            archive.close()
            raise
        return cls(archive, source, manifest, members)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._archive.close()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of the whole bundle: the name of the `base_model` artifact that adapters are bound to."""
        if isinstance(self._source, bytes):
            return hashlib.sha256(self._source).hexdigest()
        with self._source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, name: str) -> bytes:
        """The content of one member, checked against the manifest. Raises BundleError."""
        member = self._members.get(name)
        if member is None:
            _fail(f"This bundle has no member {name}.")
        try:
            with self._lock:
                content = self._archive.read(member.info)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError):
            content = b""
        if len(content) != member.entry.length or hashlib.sha256(content).hexdigest() != member.entry.sha256:
            _fail(f"The bundle's member {name} is damaged; fetch the bundle again.")
        return content

    def verify(self) -> None:
        """Read every member once. Raises BundleError when one is damaged."""
        for name in self._members:
            self.read(name)

    def graph(self, stage: str, runtime: str) -> bytes:
        """The graph of a stage for a runtime ("onnx"). Raises BundleError where the bundle carries none."""
        name = self.manifest.stage(stage).graphs.get(runtime)
        if name is None:
            _fail(f"This bundle carries no {runtime} graph for the stage {stage}.")
        return self.read(name)

    def face_detector(self) -> bytes:
        """The TFLite weights that find faces."""
        return self.read(self.manifest.face.detector)

    def face_mesh(self) -> bytes:
        """The TFLite weights that place the 468 landmarks."""
        return self.read(self.manifest.face.mesh)

    def golden_clips(self) -> Iterator[GoldenClip]:
        """The golden clips, one at a time, in the manifest's order."""
        for spec in self.manifest.golden.clips:
            yield GoldenClip(spec.segment, spec.wav, self._clip_audio(spec), self._clip_motion(spec))

    def _clip_audio(self, spec: GoldenClipSpec) -> FloatArray:
        audio = self.manifest.audio
        try:
            with wave.open(io.BytesIO(self.read(spec.wav))) as clip:
                right = (clip.getnchannels(), clip.getsampwidth(), clip.getframerate()) == (1, 2, audio.sample_rate)
                frames = clip.readframes(clip.getnframes()) if right else b""
        except (wave.Error, EOFError):
            frames = b""
        samples = np.frombuffer(frames[: len(frames) // 2 * 2], dtype="<i2").astype(np.float32) / 32768.0
        if math.ceil(samples.size / audio.step_samples) != spec.steps:
            _fail(f"The golden clip {spec.wav} must be a 16-bit mono WAV of {spec.steps} steps.")
        return samples

    def _clip_motion(self, spec: GoldenClipSpec) -> FloatArray:
        width = len(self.manifest.motion.parameters)
        values = np.frombuffer(self.read(spec.expected), dtype="<f4").astype(np.float32)
        if not np.isfinite(values).all():
            _fail(f"The expected motion {spec.expected} holds values that are not finite.")
        return values.reshape(spec.steps, width)


def _open_zip(source: Path | bytes) -> zipfile.ZipFile:
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size > MAX_BUNDLE_BYTES:
            _fail(f"This bundle has {size} bytes; at most {MAX_BUNDLE_BYTES} are allowed.")
        return zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    except OSError as error:
        raise BundleError(f"The bundle cannot be read: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError("This file is not a bundle: it is not a complete zip archive.") from error


def _member_infos(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        _fail(f"This bundle has {len(infos)} members; at most {MAX_MEMBERS} are allowed.")
    by_name: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        if info.filename in by_name:
            _fail(f"The bundle names its member {info.filename} twice.")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            _fail(f"The bundle's member {info.filename} is compressed; members must be stored as they are.")
        by_name[info.filename] = info
    return by_name


def _read_manifest(archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo]) -> Manifest:
    info = infos.get(MANIFEST)
    if info is None:
        _fail("This bundle has no manifest.json.")
    if info.file_size > MAX_MANIFEST_BYTES:
        _fail(f"The bundle's manifest.json is larger than {MAX_MANIFEST_BYTES} bytes.")
    try:
        return msgspec.json.decode(archive.read(info), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"The bundle's manifest.json cannot be understood: {error}.") from error
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise BundleError("The bundle's manifest.json is damaged; fetch the bundle again.") from error


def _check_manifest(manifest: Manifest) -> None:
    if manifest.format != FORMAT:
        _fail(f"This bundle has format {manifest.format}; this agent understands format {FORMAT}.")
    for name in _named_files(manifest):
        if name not in manifest.files:
            _fail(f"The bundle's manifest uses {name} without naming it among its files.")
    audio, motion, golden = manifest.audio, manifest.motion, manifest.golden
    if min(audio.sample_rate, audio.step_samples, audio.hops_per_step, audio.coefficients) < 1:
        _fail("The bundle's audio settings must be positive numbers.")
    if not 0 <= audio.look_ahead_steps <= 25:
        _fail("The bundle's look-ahead must be between 0 and 25 steps.")
    if not motion.parameters or len(motion.mean_pose) != len(motion.parameters):
        _fail("The bundle's mean pose must have one value per motion parameter.")
    if not all(math.isfinite(value) for value in motion.mean_pose):
        _fail("The bundle's mean pose holds values that are not finite.")
    for spec in (spec for stage in manifest.stages for spec in (*stage.inputs, *stage.outputs)):
        if any(size < 1 for size in spec.shape) or math.prod(spec.shape) > MAX_TENSOR_VALUES:
            _fail(f"The bundle's tensor {spec.name} has an impossible shape.")
    for tensor in manifest.adapter.tensors:
        if min(tensor.shape) < 1 or math.prod(tensor.shape) > MAX_TENSOR_VALUES or tensor.minimum > tensor.maximum:
            _fail(f"The bundle's adapter tensor {tensor.name} has an impossible shape or range.")
    limit = MAX_CLIP_SECONDS * audio.sample_rate // audio.step_samples
    for clip in golden.clips:
        if not 1 <= clip.steps <= limit:
            _fail(f"The golden clip {clip.wav} must last between one step and {MAX_CLIP_SECONDS} seconds.")
        if clip.segment not in golden.limits_mm:
            _fail(f"The bundle sets no lip error limit for the segment {clip.segment}.")
        if manifest.files[clip.expected].length != clip.steps * len(motion.parameters) * 4:
            _fail(f"The expected motion {clip.expected} does not have {clip.steps} steps.")


def _named_files(manifest: Manifest) -> Iterator[str]:
    for stage in manifest.stages:
        yield from stage.graphs.values()
    yield manifest.face.detector
    yield manifest.face.mesh
    for clip in manifest.golden.clips:
        yield clip.wav
        yield clip.expected
