"""Signing a release, offline: files and an earlier release in, a package out, the folder advanced by one version."""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from tuf.api.metadata import Metadata, TargetFile, Targets

from framectl import documents as tuf
from framectl.adapters.file import base_model_of
from framectl.agents import read_agent
from framectl.errors import CommandFailed
from framectl.files import read_file
from framectl.offline import OfflineFolder
from framectl.package import PackedFile, write_package
from framectl.proposals import OpenRelease, Proposal, add_signatures, missing
from protocol.chunks import build_index, sha256_hex
from protocol.codec import decode, encode
from protocol.errors import Refused
from protocol.limits import MAX_MESSAGE, MAX_TARGETS_PER_RELEASE, MAX_TEXT
from protocol.messages import TargetRef
from protocol.repository import (
    ROLE_OF_KIND,
    ArtifactManifest,
    ReleaseManifest,
    RuntimeRange,
    artifact_manifest,
)
from protocol.versions import older

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_VERSION = re.compile(r"[0-9][0-9a-z.]{0,30}")
_RUNTIME = re.compile(r"(onnx|rknn)(?:>=([0-9][0-9.]*))?(?:,?<([0-9][0-9.]*))?")
_PIECE = 1024 * 1024
MAX_EPOCH = 2**31
INSTALLS_AGENTS = "0.2.0"
"""What an agent in a release asks of the one that runs before: those before 0.2.0 refuse a release that brings one."""


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """What to sign. Exactly one of ``base_model`` (a bundle file) and ``base_release`` (name, version) is given."""

    name: str
    version: str
    base_model: Path | None
    base_release: tuple[str, str] | None
    adapters: tuple[Path, ...] = ()
    agent: Path | None = None
    """None: frames keep the agent they run."""
    notes: str = ""
    hardware: tuple[str, ...] = ()
    min_agent: str = "0"
    """For base model and adapters; with ``agent`` they meet the agent that the release brings."""
    runtimes: tuple[RuntimeRange, ...] = ()
    security_epoch: int | None = None
    """None: the highest that was signed in this folder."""
    keys: tuple[str, ...] = ()
    """URIs of the keys to sign with; none for those in the folder."""


@dataclass(frozen=True, slots=True)
class SignedRelease:
    """What came out; ``versions`` are those of the newly signed documents, ``missing`` says whose signatures the
    package still lacks."""

    name: str
    version: str
    digest: str
    targets: list[TargetRef]
    versions: dict[str, int]
    package: Path
    security_epoch: int
    missing: tuple[str, ...] = ()
    agent: str | None = None
    """Version of the agent it brings."""


def runtime_range(text: str) -> RuntimeRange:
    """``"rknn>=2.3,<3"`` as a range of versions. Raises CommandFailed."""
    match = _RUNTIME.fullmatch("".join(text.split()))
    if match is None:
        raise CommandFailed(f"{text!r} is no range of runtime versions: write for example 'rknn>=2.3,<3' or 'onnx'.")
    name, at_least, below = match.groups()
    return msgspec.convert({"name": name, "at_least": at_least or "0", "below": below}, RuntimeRange)


def split_release(text: str) -> tuple[str, str]:
    """``"talking-portrait 1.0"`` as name and version. Raises CommandFailed."""
    name, _, version = text.strip().partition(" ")
    version = version.strip()
    if _NAME.fullmatch(name) is None or _VERSION.fullmatch(version) is None:
        raise CommandFailed(
            f'{text!r} names no release: write name and version, for example "talking-portrait 1.1" '
            "(names use a-z, 0-9 and '-'; versions begin with a digit and use 0-9, a-z and '.')."
        )
    return name, version


def sign_release(folder: OfflineFolder, request: ReleaseRequest, out: Path, now: datetime) -> SignedRelease:
    """Sign the release, write its package, then advance the folder; with too few signatures the package is incomplete
    and the folder keeps them as its proposal. Raises CommandFailed and changes nothing."""
    split_release(f"{request.name} {request.version}")
    if len(request.notes) > MAX_TEXT:
        raise CommandFailed(f"The notes have {len(request.notes)} characters; at most {MAX_TEXT} are allowed.")
    folder.refuse_open_proposal()
    tuf.refuse_expired(folder.documents, now)
    release_path = f"release/{request.name}-{request.version}.json"
    if release_path in folder.documents["release"].signed.targets:
        raise CommandFailed(
            f"{request.name} {request.version} has been signed before and releases never change: use a new version."
        )
    epoch = _epoch(folder, request)
    plan = _Plan(folder, request)
    base = plan.base_model()
    for number, adapter in enumerate(request.adapters, start=1):
        plan.adapter(adapter, number, base)
    agent = plan.agent(request.agent) if request.agent is not None else None
    if not 1 <= len(plan.targets) <= MAX_TARGETS_PER_RELEASE:
        raise CommandFailed(f"A release has 1 to {MAX_TARGETS_PER_RELEASE} artifacts, not {len(plan.targets)}.")

    manifest = ReleaseManifest(name=request.name, version=request.version, targets=plan.targets, notes=request.notes)
    data = encode(manifest)
    digest = sha256_hex(data)
    plan.added["release"] = [target_of(release_path, data, epoch)]
    changed: tuf.Documents = {
        role: tuf.with_targets(role, folder.documents, added, now) for role, added in plan.added.items()
    }
    if not add_signatures(changed, folder.documents, folder.signers(request.keys, changed)):
        lacks = "; ".join(str(need) for need in missing(changed, folder.documents))
        raise CommandFailed(f"None of these keys may sign this release: {lacks}.")
    lacks_still = [str(need) for need in missing(changed, folder.documents)]
    documents = {role: document.to_bytes() for role, document in changed.items()}
    write_package(out, data, documents, plan.packed, missing=lacks_still)
    folder.propose(Proposal(changed, OpenRelease(request.name, request.version, data)))
    folder.settle()
    versions = {role: document.signed.version for role, document in changed.items()}
    return SignedRelease(
        request.name, request.version, digest, plan.targets, versions, out, epoch, tuple(lacks_still), agent
    )


def target_of(path: str, data: bytes, security_epoch: int = 0) -> TargetFile:
    """The signed entry of a release manifest."""
    index = build_index([data])
    manifest = ArtifactManifest(kind="release", index=index.root, security_epoch=security_epoch)
    return tuf.target_file(path, index.length, index.sha256, manifest)


def _epoch(folder: OfflineFolder, request: ReleaseRequest) -> int:
    """A frame's floor knows no names of releases, so neither does this rule: epochs never fall within a folder."""
    signed = {
        path: artifact_manifest(target.custom).security_epoch
        for path, target in folder.documents["release"].signed.targets.items()
    }
    path, highest = max(signed.items(), key=lambda item: item[1], default=("", 0))
    if request.security_epoch is None:
        return highest
    if not highest <= request.security_epoch <= MAX_EPOCH:
        raise CommandFailed(
            f"The security epoch must lie between {highest} and {MAX_EPOCH}: frames that committed "
            f"{path.removeprefix('release/').removesuffix('.json') or 'a release'} accept no smaller one."
        )
    return request.security_epoch


class _Plan:
    """Collects the release's targets, the entries that are new in each role, and the files to pack."""

    def __init__(self, folder: OfflineFolder, request: ReleaseRequest) -> None:
        self._folder = folder
        self._request = request
        self.targets: list[TargetRef] = []
        self.added: dict[str, list[TargetFile]] = {}
        self.packed: list[PackedFile] = []
        self._asks = [("--min-agent", request.min_agent)]
        """What asks for an agent, and for which."""

    def base_model(self) -> str:
        """Add the base model; returns its SHA-256."""
        request = self._request
        if request.base_model is not None and request.base_release is None:
            path = f"base/{request.name}-{request.version}.bundle"
            return self._file(path, request.base_model, self._conditions(ArtifactManifest(kind="base_model")))
        if request.base_release is None or request.base_model is not None:
            raise CommandFailed("Give either a base model file or an earlier release that has the base model.")
        manifest = signed_release(self._folder, *request.base_release)
        for target in manifest.targets:
            manifest_of_base = artifact_manifest(_entry(self._folder, target).custom)
            if manifest_of_base.kind == "base_model":  # no agent: frames keep the one that release brought
                self._list(target, manifest_of_base)
                return target.sha256
        raise CommandFailed(f"{' '.join(request.base_release)} has no base model: name the release that brought it.")

    def adapter(self, path: Path, number: int, base: str) -> None:
        """Add an adapter that is bound to ``base``."""
        bound = base_model_of(path)
        if bound != base:
            raise CommandFailed(
                f"{path} was trained for the base model {bound[:12]}, but this release has {base[:12]}: "
                "train it for this base model, or name the release that has its own."
            )
        suffix = "" if number == 1 else f"-{number}"
        target = f"lora/{self._request.name}-{self._request.version}{suffix}.adapter"
        self._file(target, path, self._conditions(ArtifactManifest(kind="lora_delta", base_model=base)))

    def agent(self, path: Path) -> str:
        """Add the agent, after everything else that the release lists; returns its version."""
        agent = read_agent(path)
        for what, needed in self._asks:
            if older(agent.version, needed):
                raise CommandFailed(
                    f"{what} asks for agent {needed} and {path} is agent {agent.version}, so no frame could run this "
                    "release: bring a newer agent, or ask for an older one."
                )
        # It needs no runtime to be started.
        hardware = list(self._request.hardware)
        manifest = ArtifactManifest(kind="agent", version=agent.version, hardware=hardware, min_agent=INSTALLS_AGENTS)
        if self._file(f"agent/{self._request.name}-{self._request.version}.zip", path, manifest) != agent.sha256:
            raise CommandFailed(f"{path} changed while it was being read: sign again when it is complete.")
        return agent.version

    def _conditions(self, manifest: ArtifactManifest) -> ArtifactManifest:
        request = self._request
        return msgspec.structs.replace(
            manifest, hardware=list(request.hardware), min_agent=request.min_agent, runtimes=list(request.runtimes)
        )

    def _list(self, target: TargetRef, manifest: ArtifactManifest) -> None:
        self.targets.append(target)
        self._asks.append((target.path, manifest.min_agent))

    def _file(self, target: str, path: Path, manifest: ArtifactManifest) -> str:
        try:
            with path.open("rb") as file:
                index = build_index(iter(lambda: file.read(_PIECE), b""))
        except OSError as error:
            raise CommandFailed(f"{path} cannot be read: {error.strerror or error}.") from None
        except ValueError as error:
            raise CommandFailed(f"{path} cannot be an artifact: {error}.") from None
        role = ROLE_OF_KIND[manifest.kind]
        known = self._known(role, index.sha256)
        if known is not None:  # the same bytes under an earlier release's name: nothing to sign or carry again
            self._list(TargetRef(known.path, known.length, index.sha256), artifact_manifest(known.custom))
            return index.sha256
        if index.sha256 in {ref.sha256 for ref in self.targets}:
            raise CommandFailed(f"{path} is in this release already: name every file once.")
        manifest = msgspec.structs.replace(manifest, index=index.root)
        self.added.setdefault(role, []).append(tuf.target_file(target, index.length, index.sha256, manifest))
        self._list(TargetRef(target, index.length, index.sha256), manifest)
        self.packed.append(PackedFile(path, index.sha256, index.length))
        return index.sha256

    def _known(self, role: str, sha256: str) -> TargetFile | None:
        document: Metadata[Targets] = self._folder.documents[role]
        return next((t for t in document.signed.targets.values() if t.hashes.get("sha256") == sha256), None)


def signed_release(folder: OfflineFolder, name: str, version: str) -> ReleaseManifest:
    """The manifest of a release signed earlier, checked against the signed release document. Raises CommandFailed."""
    target: TargetFile | None = folder.documents["release"].signed.targets.get(f"release/{name}-{version}.json")
    if target is None:
        raise CommandFailed(f"{name} {version} is not among this folder's releases: pull first, or check the name.")
    data = read_file(folder.release_path(name, version), MAX_MESSAGE)
    if sha256_hex(data) != target.hashes.get("sha256"):
        raise CommandFailed(f"The kept manifest of {name} {version} is not the signed one: pull it again.")
    try:
        return decode(data, ReleaseManifest)
    except Refused as refusal:
        raise CommandFailed(f"The manifest of {name} {version} cannot be read: {refusal.detail}") from None


def _entry(folder: OfflineFolder, target: TargetRef) -> TargetFile:
    document = folder.documents.get(target.path.partition("/")[0])
    entry: TargetFile | None = document.signed.targets.get(target.path) if document is not None else None
    if entry is None or entry.hashes.get("sha256") != target.sha256:
        raise CommandFailed(f"The signed documents no longer list {target.path}: pull the newest ones.")
    return entry


def summary(release: SignedRelease) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "name": release.name, "version": release.version, "digest": release.digest,
        "targets": msgspec.to_builtins(release.targets), "documents": release.versions, "package": str(release.package),
        "security_epoch": release.security_epoch, "agent": release.agent,
        "complete": not release.missing, "missing": list(release.missing),
    }  # fmt: skip
