"""A TUF repository as one frame sees it, without I/O: it is given documents in TUF's order and says which it needs.

    roots.update(...)  any number of times       the chain of roots
    begin()                                      the last root must not have expired; what is stored becomes the floor
    take_timestamp(...)
    needed_snapshot() -> take_snapshot(...)      None where the stored one will do
    needed_targets(role, delegator) -> take_targets(...)

Every accepted document is stored at once, so a cut loses nothing and an older one is recognised afterwards. A stored
document that has expired, or that is not the newest one, is of no use but as a floor: nothing older is accepted.

Whoever stole an online key may have published a version so high that nothing honest comes after it. The cure is a root
that names other keys: a stored timestamp or snapshot that the newest root's keys did not sign is no floor, nor is the
other of the two then. Which is decided from the stored documents alone, so no cut can come in between.
"""

import datetime as dt
from collections.abc import Generator
from dataclasses import dataclass

from tuf.api.metadata import MetaFile, Snapshot, TargetFile, Targets, Timestamp

from device_agent.ports import DocumentStore
from device_agent.trust.documents import Delegator, Document, read, refusal, require_named
from device_agent.trust.roots import RootChain
from device_agent.trust.time import Now, required, utc_now
from protocol.errors import Reason, Refused

ROOT = "root"
TOP = "targets"
MAX_DELEGATIONS = 32
"""Roles that are asked about one target."""


@dataclass(frozen=True, slots=True)
class Needed:
    """A document that has to be brought. ``length`` in bytes where a signed list names it: at most so much."""

    role: str
    version: int
    length: int | None = None


class RepositoryTrust:
    """One refresh over the stored documents, of which ``twice`` keeps the root in two copies. ``begin`` raises
    Refused(NO_TIME) while ``now`` knows no time."""

    def __init__(self, documents: DocumentStore, now: Now = utc_now, *, twice: bool = False) -> None:
        self._documents = documents
        self._now = now
        self.roots = RootChain(documents, ROOT, twice=twice)
        self._at: dt.datetime | None = None
        self._timestamp: Timestamp | None = None
        self._snapshot: Snapshot | None = None
        self._targets: dict[str, Targets] = {}
        self._verified: set[tuple[str, str]] = set()

    def begin(self) -> None:
        """The root is the newest one. Raises Refused: NO_TIME or EXPIRED."""
        self._at = required(self._now)
        self.roots.require_current(self._at)
        self._timestamp, self._snapshot = self._floors()

    # --- timestamp and snapshot ---------------------------------------------------------------------------------------

    def take_timestamp(self, data: bytes) -> None:
        """The newest timestamp. One of the version that is held changes nothing."""
        new = read(Timestamp, data, self.roots.root, Timestamp.type)
        held = self._timestamp
        if held is not None:
            if new.version == held.version:
                return
            if new.version < held.version or new.snapshot_meta.version < held.snapshot_meta.version:
                raise refusal(Timestamp.type, Reason.OLD_VERSION)
        self._require_unexpired(new, Timestamp.type)
        self._documents.save(Timestamp.type, data)
        self._timestamp = new

    def needed_snapshot(self) -> Needed | None:
        """None where the stored snapshot is the one the timestamp names."""
        meta = self._snapshot_meta()
        held = self._snapshot
        if held is not None and held.version == meta.version and not held.is_expired(self._started()):
            return None
        return Needed(Snapshot.type, meta.version, meta.length)

    def take_snapshot(self, data: bytes) -> None:
        """The snapshot that the timestamp names."""
        meta = self._snapshot_meta()
        require_named(meta, data, Snapshot.type)
        new = read(Snapshot, data, self.roots.root, Snapshot.type)
        for name, file in () if self._snapshot is None else self._snapshot.meta.items():
            listed = new.meta.get(name)
            if listed is None:
                raise refusal(Snapshot.type, Reason.ROLES_DISAGREE)
            if listed.version < file.version:
                raise refusal(Snapshot.type, Reason.OLD_VERSION)
        _require_version(new.version, meta, Snapshot.type)
        self._require_unexpired(new, Snapshot.type)
        self._documents.save(Snapshot.type, data)
        self._snapshot = new

    # --- targets ------------------------------------------------------------------------------------------------------

    def needed_targets(self, role: str = TOP, delegator: str = ROOT) -> Needed | None:
        """None where the stored document of ``role`` is the one the snapshot names and ``delegator`` lets it speak."""
        meta = self._targets_meta(role)
        if (delegator, role) in self._verified:
            return None
        stored = self._documents.load(role)
        if stored is not None:
            try:
                self._accept(role, delegator, stored)
            except Refused:
                pass
            else:
                return None
        return Needed(role, meta.version, meta.length)

    def take_targets(self, data: bytes, role: str = TOP, delegator: str = ROOT) -> None:
        """The document of ``role`` that the snapshot names."""
        self._accept(role, delegator, data)
        self._documents.save(role, data)

    def targets(self, role: str) -> Targets:
        """What ``role`` signed. Raises Refused(ROLES_DISAGREE) before it was taken."""
        signed = self._targets.get(role)
        if signed is None:
            raise refusal(role, Reason.ROLES_DISAGREE)
        return signed

    def find(self, path: str) -> Generator[Needed, bytes, TargetFile | None]:
        """Who speaks for ``path``, and what it says: the delegations in their order, depth first. Yields the documents
        that are needed for that and is sent their bytes; None when nobody signed it. Raises Refused."""
        to_visit = [(TOP, ROOT)]
        visited: set[str] = set()
        while to_visit and len(visited) <= MAX_DELEGATIONS:
            role, delegator = to_visit.pop()
            if role in visited:
                continue
            visited.add(role)
            needed = self.needed_targets(role, delegator)
            if needed is not None:
                self.take_targets((yield needed), role, delegator)
            signed = self.targets(role)
            if path in signed.targets:
                return signed.targets[path]
            if signed.delegations is None:
                continue
            children: list[tuple[str, str]] = []
            for child, terminating in signed.delegations.get_roles_for_target(path):
                children.append((child, role))
                if terminating:
                    to_visit.clear()
                    break
            to_visit += reversed(children)
        return None

    # --- inside -------------------------------------------------------------------------------------------------------

    def _floors(self) -> tuple[Timestamp | None, Snapshot | None]:
        try:
            return self._stored(Timestamp, Timestamp.type), self._stored(Snapshot, Snapshot.type)
        except Refused:  # signed by keys that the root does not name any more
            return None, None

    def _stored(self, kind: type[Document], role: str) -> Document | None:
        """None when there is none or it is damaged, which says nothing about keys. Raises Refused(WRONG_SIGNATURE)."""
        data = self._documents.load(role)
        try:
            return None if data is None else read(kind, data, self.roots.root, role)
        except Refused as refused:
            if refused.reason is Reason.WRONG_SIGNATURE:
                raise
            return None

    def _started(self) -> dt.datetime:
        if self._at is None:
            raise RuntimeError("begin comes before every document but roots")
        return self._at

    def _require_unexpired(self, document: Timestamp | Snapshot | Targets, role: str) -> None:
        if document.is_expired(self._started()):
            raise refusal(role, Reason.EXPIRED)

    def _snapshot_meta(self) -> MetaFile:
        if self._timestamp is None:
            raise RuntimeError("the timestamp comes before the snapshot")
        self._require_unexpired(self._timestamp, Timestamp.type)
        return self._timestamp.snapshot_meta

    def _targets_meta(self, role: str) -> MetaFile:
        if self._snapshot is None or self.needed_snapshot() is not None:
            raise RuntimeError("the snapshot comes before the targets")
        meta = self._snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise Refused(Reason.ROLES_DISAGREE, f"The repository's snapshot knows no {role[:64]}: publish it first.")
        return meta

    def _accept(self, role: str, delegator: str, data: bytes) -> None:
        meta = self._targets_meta(role)
        require_named(meta, data, role)
        signed = read(Targets, data, self._delegator(delegator), role)
        _require_version(signed.version, meta, role)
        self._require_unexpired(signed, role)
        self._targets[role] = signed
        self._verified.add((delegator, role))

    def _delegator(self, name: str) -> Delegator:
        return self.roots.root if name == ROOT else self.targets(name)


def _require_version(version: int, meta: MetaFile, role: str) -> None:
    if version != meta.version:
        raise refusal(role, Reason.OLD_VERSION if version < meta.version else Reason.ROLES_DISAGREE)
