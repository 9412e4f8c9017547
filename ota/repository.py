"""The image repository's server side: takes offline-signed documents in, signs snapshot and timestamp online.

Nothing here can make a frame trust a file: that takes the offline keys. What is checked here is checked again by every
frame; it is checked here first so that a mistake is one sentence at the command line and not silence on walls.

All functions that write take the repository's lock and belong into the caller's transaction or make their own.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from ota import documents, keys, roots
from ota.documents import Document, refuse
from ota.locks import Lock, hold
from ota.models import RetainedObject, TufDocument
from protocol import topics
from protocol.codec import encode
from protocol.messages import RepoHead
from protocol.repository import DELEGATIONS, DIRECTOR_ROOT

SNAPSHOT_LIFE = dt.timedelta(days=7)
TIMESTAMP_LIFE = dt.timedelta(days=1)
SNAPSHOT_MARGIN = dt.timedelta(days=3)
TIMESTAMP_MARGIN = dt.timedelta(hours=12)
"""How long before expiry an online document is renewed."""
KEPT_ONLINE = 8
"""Newest versions of an online role that stay with the broker; a frame in mid-refresh may still ask for a late one."""


def newest_documents() -> dict[str, Document]:
    """Role -> newest document, for all roles; empty before the repository is set up."""
    rows = TufDocument.objects.order_by("role", "-version").distinct("role")
    return {row.role: documents.from_wire(row.role, bytes(row.document)) for row in rows}


def is_set_up() -> bool:
    """Whether first documents were accepted."""
    return TufDocument.objects.filter(role="root").exists()


@transaction.atomic
def accept_first(given: Mapping[str, object]) -> dict[str, Document]:
    """Set the repository up with its first signed documents (TUF JSON by role; a list of successive versions for a
    root whose keys have changed since). Returns all newest documents.

    Giving the same ones again is harmless. Raises Refused, and keeps nothing, when one of them is not acceptable.
    """
    hold(Lock.REPOSITORY)
    missing = [role for role in documents.FIRST_KINDS if role not in given]
    extra = [role for role in given if role not in documents.FIRST_KINDS]
    if missing or extra:
        wrong = f"{', '.join(missing)} missing" if missing else f"{', '.join(extra)} not expected"
        raise refuse(f"The repository begins with {', '.join(documents.FIRST_KINDS)}: {wrong}.")
    walked = {role: roots.steps(role, None, given[role]) for role in documents.ROOTS}
    if not all(walked.values()):
        raise refuse("The repository begins with a root and a director-root: both lists must hold some.")
    first = {role: found[-1] for role, found in walked.items()}
    first |= {role: documents.parse(role, given[role], Targets) for role in ("targets", *DELEGATIONS)}
    if is_set_up():
        known = newest_documents()
        if all(first[role].wire == known[role].wire for role in first):
            return known
        raise refuse("The repository is set up already: bring changed keys with framectl repository push-roles.")
    _check_first(first, timezone.now())
    _store(document for found in walked.values() for document in found[:-1])
    _store(first.values())
    _sign_online(first, timezone.now())
    return newest_documents()


def _check_first(first: Mapping[str, Document], now: dt.datetime) -> None:
    root, director = first["root"], first[DIRECTOR_ROOT]
    for document in first.values():
        documents.check_life(document, now)
        if document.version != 1 and document not in (root, director):
            raise refuse(f"The {document.role} document has version {document.version}: a repository begins with 1.")
    check_online_keys(first)
    documents.check_signed(root.metadata.signed, first["targets"])
    documents.check_delegations(first["targets"])
    documents.check_each_key_once(first["targets"])
    for role in DELEGATIONS:
        documents.check_signed(first["targets"].metadata.signed, first[role])
        documents.check_no_delegations(first[role])
        if first[role].metadata.signed.targets:
            raise refuse(f"The first {role} document lists files already: they come with releases.")


def check_online_keys(newest: Mapping[str, Document]) -> None:
    """Raises Refused unless both roots name an online key of this server for each online role."""
    for role, (root, name) in keys.NAMED_BY.items():
        documents.check_names_key(newest[root], name, [key.public for key in keys.held_keys(role)])


def accept_delegated(given: Mapping[str, object]) -> dict[str, Document]:
    """Check new documents of delegated roles against the newest ones; nothing is stored. Returns them by role.

    Signed by their delegator with its threshold, version one higher, every earlier target still there and unchanged.
    Raises Refused. The caller holds the repository's lock, checks the new targets' artifacts, then calls ``publish``.
    """
    current = newest_documents()
    if "targets" not in current:
        raise refuse("The repository is not set up: run framectl repository init first.")
    targets = current["targets"]
    accepted = {}
    for role, content in given.items():
        if role not in DELEGATIONS:
            raise refuse(f"A release brings documents of {', '.join(DELEGATIONS)} only, not of {role}.")
        document = documents.parse(role, content, Targets)
        before = current[role]
        if document.version != (comes := before.version + 1):
            do = (
                "run framectl repository pull and sign again"
                if document.version < comes
                else "push the packages that were signed before this one first, in their order"
            )
            raise refuse(f"The {role} document has version {document.version}, but {comes} comes next: {do}.")
        documents.check_signed(targets.metadata.signed, document)
        documents.check_life(document, timezone.now())
        documents.check_no_delegations(document)
        _check_kept(before, document)
        accepted[role] = document
    return accepted


def _check_kept(before: Document, after: Document) -> None:
    kept = after.metadata.signed.targets
    for path, target in before.metadata.signed.targets.items():
        if kept.get(path) != target:
            raise refuse(
                f"The {after.role} document {'changes' if path in kept else 'drops'} {path}, which was signed before: "
                "releases are immutable, sign again from the newest documents."
            )


def publish(accepted: Mapping[str, Document]) -> None:
    """Store accepted documents, sign snapshot and timestamp over them, and queue all for the broker."""
    hold(Lock.REPOSITORY)
    _store(accepted.values())
    _sign_online(newest_documents(), timezone.now())


@transaction.atomic
def refresh_online(now: dt.datetime) -> bool:
    """Renew snapshot and timestamp that come near their expiry. Returns whether anything was signed."""
    hold(Lock.REPOSITORY)
    current = newest_documents()
    if "timestamp" not in current:
        return False
    if current["snapshot"].expires_at - now < SNAPSHOT_MARGIN:
        _sign_online(current, now)
    elif current["timestamp"].expires_at - now < TIMESTAMP_MARGIN:
        _sign_timestamp(current, current["snapshot"].version, now)
    else:
        return False
    return True


def _sign_online(current: Mapping[str, Document], now: dt.datetime) -> None:
    before = current.get("snapshot")
    version = 1 if before is None else before.version + 1
    meta = {f"{role}.json": MetaFile(current[role].version) for role in ("targets", *DELEGATIONS)}
    _store([_signed("snapshot", Snapshot(version=version, expires=_whole(now + SNAPSHOT_LIFE), meta=meta))])
    _sign_timestamp(current, version, now)


def _sign_timestamp(current: Mapping[str, Document], snapshot: int, now: dt.datetime) -> None:
    before = current.get("timestamp")
    version = 1 if before is None else before.version + 1
    timestamp = Timestamp(version=version, expires=_whole(now + TIMESTAMP_LIFE), snapshot_meta=MetaFile(snapshot))
    _store([_signed("timestamp", timestamp)])
    head = RepoHead(root=current["root"].version, timestamp=version, director_root=current[DIRECTOR_ROOT].version)
    queue_payload(topics.REPO_HEAD, RetainedObject.Order.HEAD, encode(head))


def _signed(role: str, signed: Snapshot | Timestamp) -> Document:
    metadata: Metadata[Any] = Metadata(signed)
    metadata.sign(keys.online_key(role).signer)
    return Document(role, metadata, documents.serialize(metadata))


def _store(new: Iterable[Document]) -> None:
    for document in new:
        TufDocument.objects.create(
            role=document.role, version=document.version, document=document.wire, expires_at=document.expires_at
        )
        topic = topics.meta_topic(document.role, document.version)
        queue_payload(topic, RetainedObject.Order.DOCUMENT, document.wire)
        if document.role in keys.ROLES:
            _retire(document.role, document.version - KEPT_ONLINE)


def _retire(role: str, version: int) -> None:
    """Take an old online document off the broker (an empty retained message does that): no frame will ask for it."""
    if version >= 1:
        queue_payload(topics.meta_topic(role, version), RetainedObject.Order.DOCUMENT, b"")


def queue_payload(topic: str, order: RetainedObject.Order, payload: bytes) -> None:
    """Have the broker retain ``payload`` under ``topic``, instead of whatever it has there."""
    row, created = RetainedObject.objects.select_for_update().get_or_create(
        topic=topic, defaults={"order": order, "payload": payload, "length": len(payload)}
    )
    if not created and row.payload is not None and bytes(row.payload) != payload:
        row.payload, row.length = payload, len(payload)
        row.revision += 1
        row.published = False
        row.save(update_fields=["payload", "length", "revision", "published"])


def _whole(at: dt.datetime) -> dt.datetime:
    return at.astimezone(dt.UTC).replace(microsecond=0)
