"""The bundle: the content of a `base_model` artifact, one uncompressed zip with a manifest.

A bundle holds the graphs of each stage, the face weights, and golden clips with the motion expected for them. Nothing
in it is trusted: `Bundle.open` checks the structure against the manifest before anything is used, and every member is
checked against its length and SHA-256 when it is read. Members are stored, never compressed, so a bundle cannot grow.
"""

import hashlib
import io
import math
import struct
import threading
import wave
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import msgspec
import numpy as np

from device_agent.bundle.check import check_manifest
from device_agent.bundle.manifest import (
    BundleError,
    FileEntry,
    FloatArray,
    GoldenClipSpec,
    Manifest,
    RuntimeName,
    StageName,
    fail,
)

__all__ = ["MANIFEST", "Bundle", "BundleError", "GoldenClip"]

MANIFEST = "manifest.json"
MAX_BUNDLE_BYTES = 1 << 30
MAX_MEMBERS = 256
MAX_MANIFEST_BYTES = 256 * 1024
MAX_DIRECTORY_BYTES = 256 * 1024
MAX_ZIP_END = 22 + 0xFFFF
"""Bytes of a zip's end record with the longest comment. Archives beyond 4 GB have another one, and are too large."""


# What zipfile raises over a damaged archive, by experiment: it promises BadZipFile alone.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    OverflowError,
    struct.error,
)


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


class Bundle:
    """An opened bundle. Reading members is safe from several threads."""

    def __init__(self, stream: BinaryIO, archive: zipfile.ZipFile, manifest: Manifest, members: dict[str, _Member]):
        self._stream = stream
        self._archive = archive
        self._members = members
        self._lock = threading.Lock()
        self.manifest = manifest

    @classmethod
    def open(cls, source: Path | str | bytes) -> Self:
        """Open and check a bundle given as a path or as bytes. Raises BundleError with one sentence."""
        if isinstance(source, str):
            source = Path(source)
        stream = _open_stream(source)
        try:
            archive = _open_zip(stream)
            infos = _member_infos(archive)
            manifest = _read_manifest(archive, infos)
            members = {
                name: _Member(infos[name], entry)
                for name, entry in manifest.files.items()
                if name in infos and infos[name].file_size == entry.length
            }
            for name in manifest.files:
                if name not in members:
                    fail(f"The bundle's member {name} is missing or has another length than its manifest says.")
            for name in infos:
                if name != MANIFEST and name not in members:
                    fail(f"The bundle has a member {name} that its manifest does not name.")
            check_manifest(manifest)
        except BaseException:
            stream.close()
            raise
        return cls(stream, archive, manifest, members)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._archive.close()
        self._stream.close()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of the whole bundle: the name of the `base_model` artifact that adapters are bound to."""
        with self._lock:
            # The very file that was opened: its path may lead to another by now.
            self._stream.seek(0)
            digest = hashlib.sha256()
            while block := self._stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def read(self, name: str) -> bytes:
        """The content of one member, checked against the manifest. Raises BundleError."""
        member = self._members.get(name)
        if member is None:
            fail(f"This bundle has no member {name}.")
        try:
            with self._lock:
                content = self._archive.read(member.info)
        except _ZIP_ERRORS:
            content = b""
        if len(content) != member.entry.length or hashlib.sha256(content).hexdigest() != member.entry.sha256:
            fail(f"The bundle's member {name} is damaged; fetch the bundle again.")
        return content

    def verify(self) -> None:
        """Read every member once. Raises BundleError when one is damaged."""
        for name in self._members:
            self.read(name)

    def graph(self, stage: StageName, runtime: RuntimeName) -> bytes:
        """The graph of a stage for a runtime. Raises BundleError where the bundle carries none."""
        name = self.manifest.stage(stage).graphs.get(runtime)
        if name is None:
            fail(f"This bundle carries no {runtime} graph for the stage {stage}.")
        return self.read(name)

    def face_detector(self) -> bytes:
        """The TFLite weights that find faces."""
        return self.read(self.manifest.face.detector)

    def face_mesh(self) -> bytes:
        """The TFLite weights that place the 468 landmarks."""
        return self.read(self.manifest.face.mesh)

    def portrait(self) -> bytes:
        """The photo that speaks in a trial, a JPEG or PNG."""
        return self.read(self.manifest.golden.portrait)

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
            fail(f"The golden clip {spec.wav} must be a 16-bit mono WAV of {spec.steps} steps.")
        return samples

    def _clip_motion(self, spec: GoldenClipSpec) -> FloatArray:
        width = len(self.manifest.motion.parameters)
        values = np.frombuffer(self.read(spec.expected), dtype="<f4").astype(np.float32)
        if not np.isfinite(values).all():
            fail(f"The expected motion {spec.expected} holds values that are not finite.")
        return values.reshape(spec.steps, width)


def _open_stream(source: Path | bytes) -> BinaryIO:
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size > MAX_BUNDLE_BYTES:
            fail(f"This bundle has {size} bytes; at most {MAX_BUNDLE_BYTES} are allowed.")
        return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    except OSError as error:
        raise BundleError(f"The bundle cannot be read: {error.strerror or error}.") from error


def _open_zip(stream: BinaryIO) -> zipfile.ZipFile:
    _check_directory(stream)
    try:
        return zipfile.ZipFile(stream)
    except _ZIP_ERRORS as error:
        raise BundleError("This file is not a bundle: it is not a complete zip archive.") from error


def _check_directory(stream: BinaryIO) -> None:
    """zipfile reads the whole list of members at once, so its length is looked at first. Raises BundleError."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - MAX_ZIP_END))
    end = stream.read(MAX_ZIP_END)
    stream.seek(0)
    record = end.rfind(b"PK\x05\x06")
    if record < 0 or len(end) - record < 22:
        return  # zipfile says what is wrong
    entries, length = struct.unpack_from("<HI", end, record + 10)
    if entries > MAX_MEMBERS:
        fail(f"This bundle has {entries} members; at most {MAX_MEMBERS} are allowed.")
    if length > MAX_DIRECTORY_BYTES:
        fail(f"The bundle's list of members is larger than {MAX_DIRECTORY_BYTES} bytes.")


def _member_infos(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        fail(f"This bundle has {len(infos)} members; at most {MAX_MEMBERS} are allowed.")
    by_name: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        if info.filename in by_name:
            fail(f"The bundle names its member {info.filename} twice.")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            fail(f"The bundle's member {info.filename} is compressed; members must be stored as they are.")
        by_name[info.filename] = info
    return by_name


def _read_manifest(archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo]) -> Manifest:
    info = infos.get(MANIFEST)
    if info is None:
        fail("This bundle has no manifest.json.")
    if info.file_size > MAX_MANIFEST_BYTES:
        fail(f"The bundle's manifest.json is larger than {MAX_MANIFEST_BYTES} bytes.")
    try:
        content = archive.read(info)
    except _ZIP_ERRORS as error:
        raise BundleError("The bundle's manifest.json is damaged; fetch the bundle again.") from error
    try:
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"The bundle's manifest.json cannot be understood: {error}.") from error
