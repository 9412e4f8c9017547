"""What the bridge publishes: the tables are the outbox.

The broker gets chunks before documents, documents before the head, and a DesiredState only once everything its release
needs is there. A token says which revision was sent, so that the broker's answer to an older one never hides a newer.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone

from ota import storage
from ota.models import DesiredState, Release, RetainedObject
from protocol import topics

log = logging.getLogger(__name__)

TELL_AGAIN_S = 60.0
_told: dict[str, float] = {}
"""Artifact -> when it was last said that it cannot be read. As many entries as artifacts are damaged."""

# Rows are locked in order, as everybody who locks many of them does, so that nobody waits in a circle.
_MARK_RETAINED = """
    WITH sent AS (SELECT * FROM unnest(%s::text[], %s::bigint[]) AS s (topic, revision)),
    held AS (SELECT r.topic FROM ota_retainedobject r JOIN sent USING (topic) WHERE r.revision = sent.revision
             ORDER BY r.topic FOR NO KEY UPDATE OF r)
    UPDATE ota_retainedobject SET published = TRUE FROM held WHERE ota_retainedobject.topic = held.topic
"""
_MARK_DESIRED = """
    WITH sent AS (SELECT * FROM unnest(%s::text[], %s::bigint[]) AS s (frame_id, version)),
    held AS (SELECT d.frame_id, sent.version FROM ota_desiredstate d JOIN sent USING (frame_id)
             ORDER BY d.frame_id FOR NO KEY UPDATE OF d)
    UPDATE ota_desiredstate d SET published_version = held.version FROM held
    WHERE d.frame_id = held.frame_id AND d.published_version < held.version
"""


@dataclass(frozen=True, slots=True)
class Pending:
    """One retained message that the broker does not have yet."""

    topic: str
    payload: bytes
    token: str


def pending(limit: int) -> list[Pending]:
    """At most ``limit`` messages to publish (QoS 1, retained), in order.

    Half of the room is kept for DesiredStates, so that a large upload does not hold up a rollback. What was returned
    before and is not marked yet is returned again. Chunks whose bytes cannot be read wait, and so does what comes after
    them in order; everything else goes on.
    """
    desired = _due_desired(limit)
    retained = _due_retained(max(limit - len(desired), limit // 2))
    return retained + desired[: limit - len(retained)]


def backlog() -> tuple[int, int]:
    """How many retained objects and DesiredStates the broker does not have yet."""
    return RetainedObject.objects.filter(published=False).count(), _desired_behind().count()


def mark_published(tokens: Iterable[str]) -> None:
    """The broker has taken these (PUBACK). Unknown and outdated tokens are ignored."""
    found: dict[str, tuple[list[str], list[int]]] = defaultdict(lambda: ([], []))
    for token in tokens:
        kind, _, rest = token.partition(":")
        number, _, name = rest.partition(":")
        names, numbers = found[kind]
        names.append(name)
        numbers.append(int(number))
    with transaction.atomic(), connection.cursor() as cursor:
        if "retained" in found:
            cursor.execute(_MARK_RETAINED, found["retained"])
            if not RetainedObject.objects.filter(published=False).exists():
                Release.objects.filter(published_at=None).update(published_at=timezone.now())
        if "desired" in found:
            cursor.execute(_MARK_DESIRED, found["desired"])


def forget_published() -> None:
    """The broker has lost its retained messages: everything is due again, in order."""
    with transaction.atomic():
        Release.objects.update(published_at=None)
        RetainedObject.objects.update(published=False)
        DesiredState.objects.update(published_version=0)


def progress(digests: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Release digest -> (retained chunks of its artifacts with the broker, retained chunks in all)."""
    rows = Release.objects.filter(digest__in=list(digests)).order_by()
    counted = rows.values("digest").annotate(
        total=Count("artifacts__retained"),
        done=Count("artifacts__retained", filter=Q(artifacts__retained__published=True)),
    )
    return {row["digest"]: (row["done"], row["total"]) for row in counted}


def _due_retained(limit: int) -> list[Pending]:
    due = RetainedObject.objects.filter(published=False).order_by("order", "topic")
    first = due.first()
    if first is None:
        return []
    # A class waits until the broker has answered for all of the one before: order of sending alone would not survive
    # a reconnect in between.
    due = due.filter(order=first.order)
    found: list[Pending] = []
    unreadable: set[str] = set()
    after = ""
    while len(found) < limit:
        readable = due.filter(topic__gt=after).exclude(artifact__in=unreadable, payload=None)
        rows = list(readable[: limit - len(found)])
        if not rows:
            break
        after = rows[-1].topic
        for row in rows:
            if row.payload is None and row.artifact_id in unreadable:
                continue
            try:
                found.append(Pending(row.topic, _payload(row), f"retained:{row.revision}:{row.topic}"))
            except OSError as error:
                unreadable.add(row.artifact_id or "")
                _tell(row.artifact_id or "", error)
    return found


def _tell(sha256: str, error: OSError) -> None:
    """Say it once in a while: the publisher asks several times a second."""
    if time.monotonic() - _told.get(sha256, float("-inf")) > TELL_AGAIN_S:
        _told[sha256] = time.monotonic()
        log.error("Artifact %s cannot be published (%s): push its release again.", sha256[:12], error)


def _payload(row: RetainedObject) -> bytes:
    if row.payload is not None:
        return bytes(row.payload)
    if row.artifact_id is None:
        raise ValueError(f"{row.topic} has neither payload nor artifact.")
    return storage.read_range(row.artifact_id, row.offset, row.length)


def _desired_behind() -> QuerySet[DesiredState]:
    return DesiredState.objects.filter(version__gt=F("published_version"))


def _due_desired(limit: int) -> list[Pending]:
    ready = Q(release=None) | Q(release__published_at__isnull=False)
    rows = _desired_behind().filter(ready).order_by("issued_at", "frame_id")[:limit]
    return [
        Pending(
            topics.frame_topic(row.frame_id, "desired"), bytes(row.envelope), f"desired:{row.version}:{row.frame_id}"
        )
        for row in rows
    ]
