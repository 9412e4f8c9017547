"""What frames say about themselves: hello at every connection, a ReportedState after every change."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from django.db import connection, transaction

from fleet import clock
from fleet.models import Frame, HealthEvent, ReportedState
from fleet.services.telemetry_rows import clean, moment
from protocol import messages
from protocol.limits import MAX_TEXT

FrameReport = tuple[str, messages.ReportedState]
"""(frame id from the topic, what came on it)."""

NOTE_INTERVAL = timedelta(minutes=1)
"""The backend notes the same thing about the same frame at most this often."""

_SAID = [field.name for field in ReportedState._meta.concrete_fields if not field.primary_key]

_HELLO_SQL = """
    UPDATE fleet_frame SET last_seen = %s, agent_version = come.agent_version, desired_version = come.desired_version
    FROM unnest(%s::varchar[], %s::varchar[], %s::bigint[]) AS come(id, agent_version, desired_version)
    WHERE fleet_frame.id = come.id RETURNING fleet_frame.id
"""


def record_hellos(hellos: dict[str, messages.Hello], now: datetime | None = None) -> set[str]:
    """Take in the newest hello of each frame id. Returns the ids that are enrolled."""
    with connection.cursor() as cursor:
        cursor.execute(
            _HELLO_SQL,
            [
                now or clock.now(),
                list(hellos),
                [clean(hello.agent_version) for hello in hellos.values()],
                [hello.desired_version for hello in hellos.values()],
            ],
        )
        return {frame_id for (frame_id,) in cursor.fetchall()}


def record_hello(frame_id: str, hello: messages.Hello, now: datetime | None = None) -> bool:
    """Take in one hello. False when the frame is not enrolled."""
    return bool(record_hellos({frame_id: hello}, now))


@transaction.atomic
def record_reports(reports: Sequence[FrameReport], now: datetime | None = None) -> list[FrameReport]:
    """Keep what frames say they run, oldest first. Returns the reports that count: not the stale ones, nor those of
    frames that are not enrolled.

    Stale is a sequence of the same journal that is not above the stored one; while a download goes on it stands still,
    and the later report counts. A new journal always counts: a frame that lost its journal begins anew.
    """
    now = now or clock.now()
    ids = {frame_id for frame_id, _ in reports}
    # Locking the frames orders reports of one frame, also its first two.
    locked = Frame.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk")
    enrolled = set(locked.values_list("pk", flat=True))
    stored = ReportedState.objects.in_bulk(enrolled)
    counted: list[FrameReport] = []
    newest: dict[str, messages.ReportedState] = {}
    for frame_id, report in reports:
        if frame_id not in enrolled:
            continue
        known = stored.get(frame_id)
        if known is not None and known.journal_id == report.journal_id and not _is_newer(report, known):
            continue
        stored[frame_id] = _row(frame_id, report, now)
        newest[frame_id] = report
        counted.append((frame_id, report))
    ReportedState.objects.bulk_create(
        [stored[frame_id] for frame_id in sorted(newest)],
        update_conflicts=True,
        unique_fields=["frame"],
        update_fields=_SAID,
    )
    with connection.cursor() as cursor:
        cursor.execute(
            _HELLO_SQL,
            [
                now,
                list(newest),
                [clean(report.agent_version) for report in newest.values()],
                [report.desired_version for report in newest.values()],
            ],
        )
    return counted


def record_reported(frame_id: str, report: messages.ReportedState, now: datetime | None = None) -> bool:
    """Keep one report. False when it does not count."""
    return bool(record_reports([(frame_id, report)], now))


def _row(frame_id: str, report: messages.ReportedState, now: datetime) -> ReportedState:
    return ReportedState(
        frame_id=frame_id,
        journal_id=report.journal_id,
        sequence=report.sequence,
        at=moment(report.at),
        state=report.state,
        desired_version=report.desired_version,
        release=report.release or "",
        slot=report.slot or "",
        target=report.target or "",
        failure_reason=report.failure.reason if report.failure else "",
        failure_detail=clean(report.failure.detail) if report.failure else "",
        lip_errors=[{**msgspec.to_builtins(one), "segment": clean(one.segment)} for one in report.lip_errors],
        figures={clean(name): value for name, value in report.figures.items()},
        received_at=now,
    )


def _is_newer(report: messages.ReportedState, stored: ReportedState) -> bool:
    if report.sequence != stored.sequence:
        return report.sequence > stored.sequence
    return report.state == "downloading" and moment(report.at) > stored.at


@transaction.atomic
def note_health(frame_id: str, kind: str, detail: str, now: datetime | None = None) -> bool:
    """Write down something the backend itself saw about a frame, so that the console shows it there.

    False when the frame is not enrolled, or when the same kind was noted within ``NOTE_INTERVAL``: a frame that floods
    must not fill the table.
    """
    now = now or clock.now()
    if not Frame.objects.select_for_update(no_key=True).filter(pk=frame_id).exists():
        return False
    recent = HealthEvent.objects.filter(frame_id=frame_id, outbox_id=None, kind=kind)
    if recent.filter(received_at__gt=now - NOTE_INTERVAL).exists():
        return False
    HealthEvent.objects.create(frame_id=frame_id, at=now, received_at=now, kind=kind, detail=clean(detail)[:MAX_TEXT])
    return True
