"""Telemetry in: many batches of many frames in one transaction, each event counted once however often it comes.

The caller acknowledges to the frames only what is returned here, and only after the transaction has been committed.
"""

from datetime import datetime

from django.db import connection, transaction

from fleet import clock, metrics
from fleet.services.event_times import Clocks, millis
from fleet.services.telemetry_rows import KINDS, Kind, Row, row
from protocol.messages import TelemetryBatch

Batches = list[tuple[str, TelemetryBatch]]
"""(frame id from the topic, what came on it)."""
Watermarks = dict[tuple[str, str], int]
"""(frame id, outbox id) -> everything up to this sequence number is committed."""

_WATERMARK_SQL = """
    INSERT INTO fleet_outboxwatermark (frame_id, outbox_id, seq)
    SELECT frame_id, outbox_id, max(seq) FROM unnest(%s::varchar[], %s::uuid[], %s::bigint[])
        AS come(frame_id, outbox_id, seq)
    GROUP BY frame_id, outbox_id ORDER BY frame_id, outbox_id
    ON CONFLICT (frame_id, outbox_id) DO UPDATE SET seq = greatest(fleet_outboxwatermark.seq, excluded.seq)
    RETURNING frame_id, outbox_id, seq
"""
_SEEN_SQL = """
    UPDATE fleet_frame SET last_seen = %s
    WHERE id = ANY(%s) AND (last_seen IS NULL OR last_seen < %s - interval '10 seconds')
"""


def ingest(batches: Batches, now: datetime | None = None, clocks: Clocks | None = None) -> Watermarks:
    """Store every event that is not there yet and count it into its frame's day, in one transaction.

    ``now`` is the time of receipt; no event is stored as later than that. ``clocks`` says which frames' clocks are
    wrong; without it, the batches are taken to have been sent just now. Of an event that comes again, the date that it
    was stored with counts.

    Returns the committed watermark of each outbox. Events of frames that are not enrolled are dropped, counted and
    get no watermark. Raises what the database raises; then nothing was stored.
    """
    now = now or clock.now()
    if clocks is None:
        clocks = Clocks()
        for frame_id, batch in batches:
            clocks.hear(frame_id, batch, now)
    with metrics.INGEST_SECONDS.time(), transaction.atomic():
        known = _lock_known({frame_id for frame_id, _ in batches})
        kept = [(frame_id, batch) for frame_id, batch in batches if frame_id in known]
        rows = _rows(kept, clocks, millis(now))
        for kind, of_kind in rows.items():
            _store(kind, of_kind, now)
        watermarks = _advance(kept)
        with connection.cursor() as cursor:
            cursor.execute(_SEEN_SQL, [now, sorted(known), now])
    for kind, of_kind in rows.items():
        metrics.EVENTS.labels(kind.label).inc(len(of_kind))
    unknown = sum(len(batch.events) for frame_id, batch in batches if frame_id not in known)
    metrics.EVENTS_DROPPED.labels("unknown_frame").inc(unknown)
    return watermarks


def watermarks(outboxes: list[tuple[str, str]]) -> Watermarks:
    """The committed watermark of each (frame id, outbox id); 0 where nothing came yet."""
    found: Watermarks = dict.fromkeys(outboxes, 0)
    if not outboxes:
        return found
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT frame_id, outbox_id, seq FROM fleet_outboxwatermark WHERE (frame_id, outbox_id) IN "
            "(SELECT * FROM unnest(%s::varchar[], %s::uuid[]))",
            [[frame_id for frame_id, _ in outboxes], [outbox_id for _, outbox_id in outboxes]],
        )
        found |= {(frame_id, outbox.hex): seq for frame_id, outbox, seq in cursor.fetchall()}
    return found


def _lock_known(frame_ids: set[str]) -> set[str]:
    """Which of the frames are enrolled; they cannot disappear before the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM fleet_frame WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE", [sorted(frame_ids)])
        return {frame_id for (frame_id,) in cursor.fetchall()}


def _rows(batches: Batches, clocks: Clocks, received_ms: int) -> dict[Kind, list[Row]]:
    rows: dict[Kind, list[Row]] = {}
    skewed = future = 0
    for frame_id, batch in batches:
        shift = clocks.shift_ms(frame_id)
        for event in batch.events:
            at = event.at
            if shift:
                at = max(at + shift, 0)
                skewed += 1
            if at > received_ms:
                at = received_ms
                future += not shift
            kind = KINDS[type(event)]
            rows.setdefault(kind, []).append(row(kind, frame_id, batch.outbox_id, event, at))
    metrics.EVENTS_REDATED.labels("skew").inc(skewed)
    metrics.EVENTS_REDATED.labels("future").inc(future)
    return rows


def _store(kind: Kind, rows: list[Row], now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(kind.prepare_sql)
        cursor.execute(f"DELETE FROM {kind.staging}")  # noqa: S608  a constant; an outer transaction may hold rows still
        with cursor.copy(kind.copy_sql) as copy:
            for one in rows:
                copy.write_row(one)
        cursor.execute(kind.insert_sql, [now])


def _advance(batches: Batches) -> Watermarks:
    if not batches:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            _WATERMARK_SQL,
            [
                [frame_id for frame_id, _ in batches],
                [batch.outbox_id for _, batch in batches],
                [max(event.seq for event in batch.events) for _, batch in batches],
            ],
        )
        return {(frame_id, outbox.hex): seq for frame_id, outbox, seq in cursor.fetchall()}
