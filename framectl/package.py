"""The release package: a zip that carries one signed release from the offline machine to the server.

``release.json``            the ReleaseManifest, byte for byte as it was signed
``metadata/<role>.json``    the newly signed delegated documents
``artifacts/<sha256>``      the artifacts that are new in this release
``incomplete.json``         only while signatures are missing: one sentence for each document that lacks some

Members are stored, never compressed, and are never written to disk under a name that the package chose.
"""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from framectl import documents as tuf
from framectl.errors import CommandFailed
from protocol.codec import decode
from protocol.errors import Refused
from protocol.limits import MAX_DOCUMENT, MAX_MESSAGE, MAX_OBJECT, MAX_TARGETS_PER_RELEASE
from protocol.repository import DELEGATIONS, ReleaseManifest

RELEASE = "release.json"
INCOMPLETE = "incomplete.json"
MAX_MEMBERS = 2 + len(DELEGATIONS) + MAX_TARGETS_PER_RELEASE
_PIECE = 1024 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file to be packed; it must still have this length and hash when it is copied."""

    path: Path
    sha256: str
    length: int


@dataclass(frozen=True, slots=True)
class Carried:
    """An artifact that is in a package already and goes into its next version."""

    package: "Package"
    sha256: str


def write_package(
    out: Path,
    manifest: bytes,
    documents: Mapping[str, bytes],
    artifacts: Sequence["PackedFile | Carried"],
    *,
    missing: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write the package completely or not at all; ``missing`` says whose signatures it lacks. Raises CommandFailed."""
    if out.exists() and not overwrite:
        raise CommandFailed(f"{out} exists already: choose another name for the package.")
    try:
        handle, aside = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                    archive.writestr(zipfile.ZipInfo(RELEASE, _EPOCH), manifest)
                    if missing:
                        archive.writestr(zipfile.ZipInfo(INCOMPLETE, _EPOCH), msgspec.json.encode(list(missing)))
                    for role in sorted(documents):
                        archive.writestr(zipfile.ZipInfo(f"metadata/{role}.json", _EPOCH), documents[role])
                    for artifact in artifacts:
                        _copy(artifact, archive)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, out)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CommandFailed(f"{out} cannot be written: {error.strerror or error}.") from None


def _copy(artifact: "PackedFile | Carried", archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo(f"artifacts/{artifact.sha256}", _EPOCH)
    with archive.open(info, "w", force_zip64=True) as target:
        if isinstance(artifact, Carried):
            for piece in artifact.package.read(artifact.sha256):
                target.write(piece)
            return
        digest = hashlib.sha256()
        with artifact.path.open("rb") as source:
            while piece := source.read(_PIECE):
                digest.update(piece)
                target.write(piece)
    if digest.hexdigest() != artifact.sha256:
        raise CommandFailed(f"{artifact.path} changed while it was being packed: sign again when it is complete.")


class Package:
    """An opened package whose structure, names and sizes have been checked; signatures are the server's business."""

    def __init__(self, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> None:
        self._archive = archive
        self._members = members
        self.manifest_bytes = self._small(RELEASE, MAX_MESSAGE)
        self.digest = hashlib.sha256(self.manifest_bytes).hexdigest()
        try:
            self.manifest = decode(self.manifest_bytes, ReleaseManifest)
        except Refused as refusal:
            raise CommandFailed(f"The package's release.json is not a release manifest: {refusal.detail}") from None
        self.documents = {role: self._document(role) for role in DELEGATIONS if f"metadata/{role}.json" in members}
        self.missing = self._missing()
        """Whose signatures are missing, in words; nothing when it is complete."""
        self.artifacts = {
            name.removeprefix("artifacts/"): info.file_size
            for name, info in members.items()
            if name.startswith("artifacts/")
        }
        listed = {target.sha256: target.length for target in self.manifest.targets}
        for sha256, length in self.artifacts.items():
            if listed.get(sha256) != length:
                raise CommandFailed(f"The package carries {sha256[:12]}, which its release does not list: sign again.")

    @classmethod
    def open(cls, path: Path) -> "Package":
        """Open and check a package; a context manager. Raises CommandFailed with one sentence."""
        try:
            archive = zipfile.ZipFile(path)
        except OSError as error:
            raise CommandFailed(f"{path} cannot be read: {error.strerror or error}.") from None
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            raise CommandFailed(f"{path} is not a complete release package: copy it again.") from None
        try:
            return cls(archive, _checked_members(path, archive))
        except BaseException:
            archive.close()
            raise

    def __enter__(self) -> "Package":
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def read(self, sha256: str) -> Iterator[bytes]:
        """An artifact in pieces. Raises CommandFailed when the package is damaged."""
        digest = hashlib.sha256()
        try:
            with self._archive.open(self._members[f"artifacts/{sha256}"]) as member:
                for piece in _pieces(member):
                    digest.update(piece)
                    yield piece
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError):
            raise CommandFailed(f"The package is damaged at {sha256[:12]}: copy it again.") from None
        if digest.hexdigest() != sha256:
            raise CommandFailed(f"The artifact {sha256[:12]} does not hash to its name: copy the package again.")

    def verify_artifacts(self) -> None:
        """Read every artifact once. Raises CommandFailed when one is damaged."""
        for sha256 in self.artifacts:
            for _ in self.read(sha256):
                pass

    def _missing(self) -> list[str]:
        if INCOMPLETE not in self._members:
            return []
        try:
            return msgspec.json.decode(self._small(INCOMPLETE, MAX_MESSAGE), type=list[str]) or [
                "Signatures are missing"
            ]
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise CommandFailed(f"The package's {INCOMPLETE} is damaged: copy the package again.") from None

    def _document(self, role: str) -> dict[str, object]:
        data = self._small(f"metadata/{role}.json", MAX_DOCUMENT)
        tuf.parse(role, data)
        return msgspec.json.decode(data, type=dict[str, object])

    def _small(self, name: str, limit: int) -> bytes:
        info = self._members.get(name)
        if info is None:
            raise CommandFailed(f"The package has no {name}: it was not written by `framectl release sign`.")
        if info.file_size > limit:
            raise CommandFailed(f"The package's {name} has {info.file_size} bytes; at most {limit} are allowed.")
        try:
            return self._archive.read(info)
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError):
            raise CommandFailed(f"The package's {name} is damaged: copy the package again.") from None


def _pieces(member: IO[bytes]) -> Iterator[bytes]:
    while piece := member.read(_PIECE):
        yield piece


def _checked_members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise CommandFailed(f"The package has {len(infos)} members; at most {MAX_MEMBERS} are allowed.")
    if sum(info.file_size for info in infos) > path.stat().st_size:
        raise CommandFailed(
            "The package claims to hold more than it has: it was not written by `framectl release sign`."
        )
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        if not _is_member(info.filename) or info.filename in members or info.flag_bits & 0x1:
            raise CommandFailed(
                f"The package has an unexpected member {info.filename[:80]!r}: it was not written by "
                "`framectl release sign`."
            )
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > MAX_OBJECT:
            raise CommandFailed(
                f"The package's member {info.filename} is compressed or too large: push the package as "
                "`framectl release sign` wrote it."
            )
        members[info.filename] = info
    return members


def _is_member(name: str) -> bool:
    folder, _, rest = name.partition("/")
    if folder == "artifacts":
        return len(rest) == 64 and all(letter in "0123456789abcdef" for letter in rest)
    return name in (RELEASE, INCOMPLETE) or name in {f"metadata/{role}.json" for role in DELEGATIONS}
