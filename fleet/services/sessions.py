"""Noticing that two frames speak with one identity, from the sessions in their hellos."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from fleet import metrics
from fleet.clones import from_json, hear, to_json
from fleet.models import Frame, FrameCertificate, FrameSessions, HealthEvent
from fleet.services.audit import audit

KIND = "cloned_identity"
TELL_EVERY = timedelta(days=1)
SHOWN_FOR = timedelta(days=7)
DETAIL = (
    "Two frames speak by turns with this identity: revoke its certificates if one was stolen, or claim the frame anew "
    "with a new label if its storage was copied."
)


@transaction.atomic
def note_sessions(heard: Iterable[tuple[str, tuple[str, datetime]]]) -> list[str]:
    """Take in hellos, each (frame id, (session, when it arrived)), oldest first; only such as arrived for the first
    time and did not wait. Returns the frames that turn out to be two, by id; those not enrolled are ignored."""
    come: dict[str, list[tuple[str, datetime]]] = {}
    for frame_id, one in heard:
        come.setdefault(frame_id, []).append(one)
    known = {row.pk: row for row in FrameSessions.objects.select_for_update().filter(pk__in=come).order_by("pk")}
    missing = Frame.objects.filter(pk__in=come.keys() - known.keys()).values_list("pk", flat=True)
    fresh = {pk: FrameSessions(pk=pk) for pk in missing}
    changed: list[FrameSessions] = []
    cloned: list[str] = []
    for frame_id, row in {**known, **fresh}.items():
        sessions = before = from_json(row.heard)
        for session, at in come[frame_id]:
            sessions, is_clone = hear(sessions, session, int(at.timestamp() * 1000))
            if is_clone:
                row.cloned_at = at
                cloned.append(frame_id)
        if sessions is not before:
            row.heard, row.changed_at = to_json(sessions), come[frame_id][-1][1]
            changed.append(row)
    for frame_id in sorted(set(cloned)):
        _tell({**known, **fresh}[frame_id])
    FrameSessions.objects.bulk_create([row for row in changed if row.pk in fresh], ignore_conflicts=True)
    FrameSessions.objects.bulk_update(
        [row for row in changed if row.pk in known], ["heard", "cloned_at", "noted_at", "changed_at"], batch_size=500
    )
    return sorted(set(cloned))


def cloned(frame_ids: Iterable[str], now: datetime | None = None) -> dict[str, datetime]:
    """Which of these frames are two with one identity, and when that was last seen. Not those where it is long ago, or
    a certificate was revoked since."""
    now = now or timezone.now()
    answered = FrameCertificate.objects.filter(frame=OuterRef("pk"), revoked_at__gt=OuterRef("cloned_at"))
    rows = FrameSessions.objects.filter(~Exists(answered), pk__in=list(frame_ids), cloned_at__gt=now - SHOWN_FOR)
    return {frame_id: at for frame_id, at in rows.values_list("pk", "cloned_at") if at is not None}


def _tell(row: FrameSessions) -> None:
    if row.cloned_at is None or (row.noted_at is not None and row.cloned_at - row.noted_at < TELL_EVERY):
        return
    row.noted_at = row.cloned_at
    metrics.CLONES.inc()
    HealthEvent.objects.create(frame_id=row.pk, at=row.cloned_at, received_at=row.cloned_at, kind=KIND, detail=DETAIL)
    audit("bridge", KIND, row.pk, {"sessions": len(row.heard.get("seen", {}))}, now=row.cloned_at)
