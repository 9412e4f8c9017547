"""An offline folder in memory: keys and documents made with python-tuf directly, as framectl would."""

import datetime as dt
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import msgspec
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, TargetFile, Targets

from ota import keys
from protocol.chunks import build_index, sha256_hex
from protocol.messages import TargetRef
from protocol.repository import (
    DELEGATIONS,
    DIRECTOR_ROOT,
    OFFLINE_ROLES,
    ROLE_OF_KIND,
    ArtifactKind,
    ArtifactManifest,
    ReleaseManifest,
)

Json = dict[str, Any]


def signer() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


@dataclass(frozen=True)
class File:
    """A file to be signed as ``path``."""

    path: str
    data: bytes
    manifest: ArtifactManifest

    @property
    def ref(self) -> TargetRef:
        return TargetRef(self.path, len(self.data), sha256_hex(self.data))


def file(path: str, data: bytes, kind: ArtifactKind, base: str | None = None) -> File:
    index = build_index([data])
    return File(path, data, ArtifactManifest(kind=kind, index=index.root, base_model=base))


@dataclass(frozen=True)
class Push:
    """What ``POST releases/`` takes, and the files to upload before."""

    manifest: bytes
    documents: Json
    files: list[File]

    @property
    def digest(self) -> str:
        return sha256_hex(self.manifest)


@dataclass
class Offline:
    """Keys of all offline roles, and the newest documents."""

    signers: dict[str, CryptoSigner] = field(
        default_factory=lambda: {role: signer() for role in (*OFFLINE_ROLES, DIRECTOR_ROOT)}
    )
    documents: dict[str, Metadata[Any]] = field(default_factory=dict)
    life: dt.timedelta = dt.timedelta(days=365)

    def expires(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC).replace(microsecond=0) + self.life

    def first(self, online: Mapping[str, Key] | None = None) -> Json:
        """The first documents, by role."""
        online = online or {role: keys.online_key(role).public for role in keys.ROLES}
        root = Root(expires=self.expires())
        for role in ("root", "targets"):
            root.add_key(self.signers[role].public_key, role)
        for role in ("snapshot", "timestamp"):
            root.add_key(online[role], role)
        director = Root(expires=self.expires())
        director.add_key(self.signers[DIRECTOR_ROOT].public_key, "root")
        director.add_key(online["director"], "targets")
        roles = {
            role: DelegatedRole(role, [self.signers[role].public_key.keyid], 1, True, list(paths))
            for role, paths in DELEGATIONS.items()
        }
        public: dict[str, Key] = {self.signers[role].public_key.keyid: self.signers[role].public_key for role in roles}
        targets = Targets(expires=self.expires(), delegations=Delegations(public, roles))
        unsigned = {"root": root, DIRECTOR_ROOT: director, "targets": targets}
        unsigned |= {role: Targets(expires=self.expires()) for role in DELEGATIONS}
        for role, signed in unsigned.items():
            self.sign(role, Metadata(signed))
        return {role: plain(document) for role, document in self.documents.items()}

    def sign(self, role: str, document: Metadata[Any], by: str | None = None) -> None:
        document.sign(self.signers[by or role])
        self.documents[role] = document

    def next(self, role: str, files: list[File]) -> Metadata[Any]:
        """The next version of a delegated document, unsigned, with more files."""
        document = deepcopy(self.documents[role])
        document.signed.version += 1
        document.signed.expires = self.expires()
        for one in files:
            document.signed.targets[one.path] = TargetFile(
                len(one.data), {"sha256": sha256_hex(one.data)}, one.path, {"custom": msgspec.to_builtins(one.manifest)}
            )
        return document

    def release(self, name: str, version: str, new: list[File], listed: list[TargetRef] | None = None) -> Push:
        """Sign a release of ``new`` files; ``listed`` are files signed before that belong to it too."""
        targets = [*(listed or []), *(one.ref for one in new)]
        manifest = msgspec.json.encode(ReleaseManifest(name=name, version=version, targets=targets))
        itself = file(f"release/{name}-{version}.json", manifest, "release")
        by_role: dict[str, list[File]] = {"release": [itself]}
        for one in new:
            by_role.setdefault(ROLE_OF_KIND[one.manifest.kind], []).append(one)
        for role, files in by_role.items():
            self.sign(role, self.next(role, files))
        return Push(manifest, {role: plain(self.documents[role]) for role in by_role}, new)


def plain(document: Metadata[Any]) -> Json:
    """The document as JSON."""
    parsed: Json = json.loads(document.to_bytes())
    return parsed
