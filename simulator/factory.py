"""The release frames are born with, read from its release package (a zip, see docs/architecture.md)."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from device_agent.folder import ConfigError
from device_agent.installer.slots import Installed, Slot
from protocol.chunks import sha256_hex
from protocol.codec import decode
from protocol.errors import Refused
from protocol.limits import MAX_DOCUMENT, MAX_MESSAGE, MAX_OBJECT
from protocol.messages import TargetRef
from protocol.repository import ArtifactManifest, ReleaseManifest, artifact_manifest, role_of
from simulator.content import SharedContent


@dataclass(frozen=True, slots=True)
class FactoryRelease:
    """Digest and slot of the factory's release."""

    digest: str
    slot: Slot


class _Target(msgspec.Struct, frozen=True):
    custom: dict[str, object] = {}


class _Signed(msgspec.Struct, frozen=True):
    targets: dict[str, _Target]


class _Document(msgspec.Struct, frozen=True):
    signed: _Signed


def read_factory(path: Path, content: SharedContent) -> FactoryRelease:
    """Read the package and put its files into the shared content. Raises ConfigError with one sentence.

    The package must carry every artifact of its release. Signatures are not looked at: a factory trusts what it burns.
    """
    try:
        with zipfile.ZipFile(path) as package:
            text = _member(package, "release.json", MAX_MESSAGE)
            manifest = decode(text, ReleaseManifest)
            artifacts = [_artifact(package, target, content) for target in manifest.targets]
    except OSError as error:
        raise ConfigError(f"The factory's release {path} cannot be read: {error.strerror or error}.") from None
    except (zipfile.BadZipFile, KeyError, NotImplementedError, EOFError, msgspec.DecodeError, Refused) as error:
        raise ConfigError(f"The factory's release {path} is no complete release package: {error}.") from None
    digest = sha256_hex(text)
    content.artifacts[digest] = text
    return FactoryRelease(digest, Slot(release=digest, artifacts=tuple(artifacts)))


def _artifact(package: zipfile.ZipFile, target: TargetRef, content: SharedContent) -> Installed:
    data = _member(package, f"artifacts/{target.sha256}", min(target.length, MAX_OBJECT))
    if len(data) != target.length or sha256_hex(data) != target.sha256:
        raise zipfile.BadZipFile(f"{target.path} does not hash to its name")
    content.artifacts[target.sha256] = data
    return Installed(
        kind=_manifest(package, target.path).kind, path=target.path, length=len(data), sha256=target.sha256
    )


def _manifest(package: zipfile.ZipFile, path: str) -> ArtifactManifest:
    document = _member(package, f"metadata/{role_of(path)}.json", MAX_DOCUMENT)
    return artifact_manifest(msgspec.json.decode(document, type=_Document).signed.targets[path].custom)


def _member(package: zipfile.ZipFile, name: str, limit: int) -> bytes:
    info = package.getinfo(name)
    if info.file_size > limit:
        raise zipfile.BadZipFile(f"{name} has {info.file_size} bytes, more than {limit}")
    return package.read(info)
