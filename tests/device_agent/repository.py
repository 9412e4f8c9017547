"""A small backend in memory: keys, TUF documents and a director, and the retained messages they make.

It is also what an attacker makes of it: ``stolen`` gives a copy in which only the stolen keys still sign, and which
publishes, over everything that frames read, whatever it is told to.
"""

import copy
import datetime as dt
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from protocol import topics
from protocol.chunks import build_index, sha256_hex, split
from protocol.codec import encode
from protocol.envelope import DESIRED_STATE_TYPE, Envelope, Signature, signed_bytes
from protocol.messages import DesiredState, RepoHead, TargetRef
from protocol.repository import (
    DELEGATIONS,
    DIRECTOR_ROOT,
    ArtifactManifest,
    ReleaseManifest,
    artifact_manifest,
    role_of,
)

ROLES = ("root", "targets", "snapshot", "timestamp", *DELEGATIONS)
DIRECTOR = "director"
ONLINE = ("snapshot", "timestamp", DIRECTOR)
"""What the server holds: whoever takes it has these keys, and the broker."""
FAST_FORWARD = 2**31
"""A version so high that nothing honest comes after it."""


def in_days(days: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=days)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Published:
    """A release as the director names it."""

    release: TargetRef
    targets: list[TargetRef]


@dataclass
class Repository:
    """``retained`` is what the broker holds; ``publish()`` signs snapshot and timestamp and brings it up to date."""

    keys: dict[str, CryptoSigner] = field(default_factory=lambda: {r: CryptoSigner.generate_ed25519() for r in ROLES})
    director: CryptoSigner = field(default_factory=CryptoSigner.generate_ed25519)
    director_offline: CryptoSigner = field(default_factory=CryptoSigner.generate_ed25519)
    retained: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    files: dict[str, TargetFile] = field(default_factory=dict)
    expires: dict[str, dt.datetime] = field(default_factory=dict)
    forged: dict[str, CryptoSigner] = field(default_factory=dict)
    """Roles whose documents somebody else signs, while the documents above still name the right key."""
    smuggled: dict[str, TargetFile] = field(default_factory=dict)
    """Role -> a target that is none of its business."""
    patterns: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(DELEGATIONS))
    cosigners: dict[str, list[CryptoSigner]] = field(default_factory=dict)
    """Keys of a role beside its first one; all of them sign, and ``thresholds`` says how many must."""
    thresholds: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.sign_root()
        self.sign_director_root()
        self.publish()

    # --- documents ----------------------------------------------------------------------------------------------------

    def sign(self, role: str, signed: Signed, *signers: CryptoSigner) -> bytes:
        document: Metadata[Any] = Metadata(signed)
        for signer in [self.forged[role]] if role in self.forged else signers or self.signers(role):
            document.sign(signer, append=True)
        data = document.to_bytes()
        self.documents[role] = data
        self.retained[topics.meta_topic(role, signed.version)] = data
        return data

    def resign(self, role: str, signers: list[CryptoSigner]) -> bytes:
        """The newest document of ``role`` with these signatures in place of its own."""
        document: Metadata[Any] = Metadata.from_bytes(self.documents[role])
        document.signatures.clear()
        return self.sign(role, document.signed, *signers)

    def signers(self, role: str) -> list[CryptoSigner]:
        """Everybody who may sign for ``role``."""
        return [self.keys[role], *self.cosigners.get(role, [])]

    def next(self, role: str) -> int:
        self.versions[role] = self.versions.get(role, 0) + 1
        return self.versions[role]

    def expiry(self, role: str) -> dt.datetime:
        return self.expires.get(role, in_days(30))

    def sign_root(self, *also: CryptoSigner) -> None:
        root = Root(version=self.next("root"), expires=self.expiry("root"), consistent_snapshot=True)
        for role in ("root", "targets", "snapshot", "timestamp"):
            for signer in self.signers(role):
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = self.thresholds.get(role, 1)
        self.sign("root", root, *self.signers("root"), *also)

    def sign_director_root(self, *also: CryptoSigner) -> None:
        root = Root(version=self.next(DIRECTOR_ROOT), expires=self.expiry(DIRECTOR_ROOT))
        for role in ("root", "snapshot", "timestamp"):
            root.add_key(self.director_offline.public_key, role)
        root.add_key(self.director.public_key, "targets")
        self.sign(DIRECTOR_ROOT, root, self.director_offline, *also)

    def publish(self) -> None:
        """Sign everything below the root anew."""
        roles: dict[str, DelegatedRole] = {}
        keys: dict[str, Key] = {}
        for role, patterns in self.patterns.items():
            mine_keys = {signer.public_key.keyid: signer.public_key for signer in self.signers(role)}
            keys |= mine_keys
            roles[role] = DelegatedRole(role, list(mine_keys), self.thresholds.get(role, 1), True, list(patterns))
            self.sign_targets(role)
        top = Targets(self.next("targets"), expires=self.expiry("targets"), delegations=Delegations(keys, roles))
        self.sign("targets", top)
        self.sign_online()

    def sign_targets(self, role: str) -> None:
        """The document of a delegated role."""
        mine = {path: file for path, file in self.files.items() if role_of(path) == role}
        if role in self.smuggled:
            mine[self.smuggled[role].path] = self.smuggled[role]
        self.sign(role, Targets(self.next(role), expires=self.expiry(role), targets=mine))

    def sign_online(self) -> None:
        """Snapshot and timestamp, as the server signs them."""
        meta = {f"{role}.json": MetaFile(self.versions[role]) for role in ("targets", *DELEGATIONS)}
        self.sign("snapshot", Snapshot(self.next("snapshot"), expires=self.expiry("snapshot"), meta=meta))
        timestamp = Timestamp(
            self.next("timestamp"),
            expires=self.expiry("timestamp"),
            snapshot_meta=MetaFile(self.versions["snapshot"]),
        )
        self.sign("timestamp", timestamp)
        self.put_head()

    def put_head(self) -> None:
        head = RepoHead(
            root=self.versions["root"],
            timestamp=self.versions["timestamp"],
            director_root=self.versions[DIRECTOR_ROOT],
        )
        self.retained[topics.REPO_HEAD] = encode(head)

    # --- keys ---------------------------------------------------------------------------------------------------------

    def rotate(self, *roles: str) -> None:
        """New keys for these roles, the root's own included, and the next root; ``publish`` signs the rest anew."""
        old = self.signers("root")
        for role in roles:
            self.keys[role] = CryptoSigner.generate_ed25519()
            self.cosigners.pop(role, None)
        self.sign_root(*(old if "root" in roles else ()))
        self.put_head()

    def rotate_director(self, *, offline: bool = False) -> None:
        """A new key for DesiredStates; with ``offline`` also one for the director's root itself."""
        old = self.director_offline
        self.director = CryptoSigner.generate_ed25519()
        if offline:
            self.director_offline = CryptoSigner.generate_ed25519()
        self.sign_director_root(*((old,) if offline else ()))
        self.put_head()

    def stolen(self, *roles: str) -> "Repository":
        """What a thief makes of it who has the keys of ``roles`` and the broker. What needs any other key is signed by
        one of his own, while the documents above go on naming the right one."""
        thief = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict):
                setattr(thief, name, dict(value))
        for role in (*ROLES, DIRECTOR_ROOT, DIRECTOR):
            if role not in roles:
                thief.forged[role] = CryptoSigner.generate_ed25519()
        return thief

    def put(self, *roles: str) -> None:
        """Say in snapshot and timestamp what ``versions`` says now, and sign only these two and ``roles``."""
        for role in roles:
            self.sign_targets(role)
        self.sign_online()

    # --- files --------------------------------------------------------------------------------------------------------

    def add(self, path: str, data: bytes, manifest: ArtifactManifest) -> TargetRef:
        """Put a file's chunks where frames read them, and its target into the next documents."""
        index = build_index([data])
        for chunk in split(data):
            self.retained[topics.chunk_topic(sha256_hex(chunk))] = chunk
        for name, chunk in index.index_chunks.items():
            self.retained[topics.chunk_topic(name)] = chunk
        custom = msgspec.to_builtins(msgspec.structs.replace(manifest, index=index.root))
        self.files[path] = TargetFile(len(data), {"sha256": index.sha256}, path, unrecognized_fields={"custom": custom})
        return TargetRef(path, len(data), index.sha256)

    def manifest_of(self, path: str) -> ArtifactManifest:
        """What is signed about a file that was added."""
        return artifact_manifest(self.files[path].custom)

    def release(self, name: str, version: str, targets: list[TargetRef], security_epoch: int = 0) -> Published:
        """Add the release's manifest and publish."""
        manifest = msgspec.json.encode(ReleaseManifest(name=name, version=version, targets=targets))
        signed = ArtifactManifest(kind="release", security_epoch=security_epoch)
        ref = self.add(f"release/{name}-{version}.json", manifest, signed)
        self.publish()
        return Published(ref, targets)

    def base(self, data: bytes, version: str = "1.0") -> TargetRef:
        return self.add(f"base/portrait-{version}.bundle", data, ArtifactManifest(kind="base_model"))

    def adapter(self, data: bytes, base: TargetRef, name: str = "mandarin-1.1", **changes: Any) -> TargetRef:
        manifest = ArtifactManifest(kind="lora_delta", **{"base_model": base.sha256, **changes})
        return self.add(f"lora/{name}.adapter", data, manifest)

    def agent(self, data: bytes, version: str | None, **changes: Any) -> TargetRef:
        manifest = ArtifactManifest(kind="agent", version=version, **changes)
        return self.add(f"agent/agent-{version}.zip", data, manifest)

    # --- director -----------------------------------------------------------------------------------------------------

    def envelope(
        self, desired: DesiredState, signer: CryptoSigner | None = None, kind: str = DESIRED_STATE_TYPE
    ) -> bytes:
        """The DesiredState under the director's key, or another."""
        payload = msgspec.json.encode(desired)
        by = signer or self.forged.get(DIRECTOR) or self.director
        signature = bytes.fromhex(by.sign(signed_bytes(kind, payload)).signature)
        return encode(Envelope(kind, payload, [Signature((signer or self.director).public_key.keyid, signature)]))

    def anchors(self) -> dict[str, bytes]:
        """What a frame is born with."""
        return {"root": self.documents["root"], DIRECTOR_ROOT: self.documents[DIRECTOR_ROOT]}


def desired(frame_id: str, version: int, published: Published | None = None, **changes: Any) -> DesiredState:
    """A DesiredState that is good for a day."""
    state = DesiredState(
        frame_id=frame_id,
        version=version,
        issued_at=now_ms(),
        expires_at=now_ms() + 86_400_000,
        release=published.release if published else None,
        targets=published.targets if published else [],
    )
    return msgspec.structs.replace(state, **changes)
