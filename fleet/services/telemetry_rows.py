"""How each kind of event becomes a row, and what it adds to its frame's day.

One ``Kind`` for each table. Rows are copied into a temporary table and go from there into the real one with
``ON CONFLICT DO NOTHING``; only rows that were really new are returned and counted, in the same statement, so an event
that comes again counts nothing.

Playbacks are counted by their context too (``fleet_contextday``), and complaints there where their playback is. Which
of the two comes first does not matter; they are sought in the same outbox within ``NEAR`` numbers of each other, which
is more than the films a frame still takes complaints about, so the search costs the same however long a frame lives.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import UNSET

from fleet.contexts import context_text
from protocol.messages import AnyEvent, Complaint, HealthEvent, PlaybackEvent, PowerSample

NEAR = 1_000
"""Sequence numbers between a playback and a complaint about it, at most."""

Row = tuple[object, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

KEY_COLUMNS = {"frame_id": "varchar", "outbox_id": "uuid", "seq": "bigint", "at": "timestamptz", "release": "varchar"}


def moment(millis: int) -> datetime:
    """Milliseconds since 1970 as a time."""
    return _EPOCH + timedelta(milliseconds=millis)


def clean(text: str) -> str:
    """Text as PostgreSQL can keep it: it has no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One kind of event: its table, the columns after ``KEY_COLUMNS``, its values in that order, what its new rows add
    to ``fleet_frameday``, and the rows they add to ``fleet_contextday`` ("" for none)."""

    label: str
    table: str
    columns: dict[str, str]
    values: Callable[[Any], Row]
    adds: dict[str, str]
    contexts: str = ""

    @property
    def staging(self) -> str:
        """Name of the temporary table."""
        return f"staging_{self.label}"

    @property
    def prepare_sql(self) -> str:
        """Make the temporary table once for each connection; it empties itself at commit."""
        columns = ", ".join(f"{name} {kind}" for name, kind in (KEY_COLUMNS | self.columns).items())
        return f"CREATE TEMP TABLE IF NOT EXISTS {self.staging} ({columns}) ON COMMIT DELETE ROWS"

    @property
    def copy_sql(self) -> str:
        """Rows in."""
        return f"COPY {self.staging} ({self._names}) FROM STDIN"

    @property
    def insert_sql(self) -> str:
        """From the temporary table into the real one and into the roll-up; one parameter, the time of receipt."""
        # Built from the constants of this module alone: nothing from outside is ever part of the text.
        insert = (
            f"INSERT INTO {self.table} ({self._names}, received_at) "  # noqa: S608
            f"SELECT {self._names}, %s FROM {self.staging} ORDER BY frame_id, outbox_id, seq "
            "ON CONFLICT (frame_id, outbox_id, seq) DO NOTHING"
        )
        if not self.adds:
            return insert
        sums = ", ".join(self.adds)
        grown = ", ".join(f"{name} = fleet_frameday.{name} + excluded.{name}" for name in self.adds)
        rest = [name for name in DAY_SUMS if name not in self.adds]
        contexts = f"counted AS ({_CONTEXT_INSERT.format(rows=self.contexts)}) " if self.contexts else ""
        return (
            f"WITH fresh AS ({insert} RETURNING *){', ' if contexts else ' '}{contexts}"  # noqa: S608
            f"INSERT INTO fleet_frameday (frame_id, day, release, {sums}, {', '.join(rest)}) "
            "SELECT frame_id, (at AT TIME ZONE 'UTC')::date AS day, release, "
            f"{', '.join(self.adds.values())}, {', '.join('0' for _ in rest)} "
            "FROM fresh GROUP BY frame_id, day, release ORDER BY frame_id, day, release "
            f"ON CONFLICT (frame_id, day, release) DO UPDATE SET {grown}"
        )

    @property
    def _names(self) -> str:
        return ", ".join([*KEY_COLUMNS, *self.columns])


DAY_SUMS = (
    "playbacks",
    "completed",
    "complaints",
    "power_sum_w",
    "power_samples",
    "latency_log_sum",
    "latency_samples",
    "fps_log_sum",
    "fps_samples",
)

_CONTEXT_INSERT = (
    "INSERT INTO fleet_contextday (frame_id, day, context, release, playbacks, completed, complaints) "
    "SELECT frame_id, (at AT TIME ZONE 'UTC')::date AS day, context, release, "
    "sum(playbacks), sum(completed), sum(complaints) FROM ({rows}) AS come WHERE context <> '' "
    "GROUP BY frame_id, day, context, release ORDER BY frame_id, day, context, release "
    "ON CONFLICT (frame_id, day, context, release) DO UPDATE SET "
    "playbacks = fleet_contextday.playbacks + excluded.playbacks, "
    "completed = fleet_contextday.completed + excluded.completed, "
    "complaints = fleet_contextday.complaints + excluded.complaints"
)
_SHOWN = (
    "SELECT frame_id, at, release, context, 1 AS playbacks, completed::int AS completed, "  # noqa: S608
    "coalesce(before.complaints, 0) AS complaints FROM fresh LEFT JOIN ("
    "SELECT c.frame_id, c.outbox_id, c.playback_id, count(*) AS complaints FROM ("
    "SELECT frame_id, outbox_id, min(seq) AS first, max(seq) AS last FROM fresh GROUP BY frame_id, outbox_id"
    ") AS outbox JOIN fleet_complaint AS c ON c.frame_id = outbox.frame_id AND c.outbox_id = outbox.outbox_id "
    f"AND c.seq BETWEEN outbox.first - {NEAR} AND outbox.last + {NEAR} GROUP BY c.frame_id, c.outbox_id, c.playback_id"
    ") AS before USING (frame_id, outbox_id, playback_id)"
)
_COMPLAINED = (
    "SELECT p.frame_id, p.at, p.release, p.context, 0 AS playbacks, 0 AS completed, 1 AS complaints "  # noqa: S608
    "FROM fresh JOIN LATERAL (SELECT * FROM fleet_playback AS p WHERE p.frame_id = fresh.frame_id "
    f"AND p.outbox_id = fresh.outbox_id AND p.seq BETWEEN fresh.seq - {NEAR} AND fresh.seq + {NEAR} "
    "AND p.playback_id = fresh.playback_id ORDER BY p.seq LIMIT 1) AS p ON true"
)

PLAYBACK = Kind(
    label="playback",
    table="fleet_playback",
    columns={
        "playback_id": "uuid",
        "mode": "varchar",
        "voice_s": "float8",
        "video_s": "float8",
        "watched_s": "float8",
        "completed": "boolean",
        "first_frame_ms": "float8",
        "fps": "float8",
        "context": "varchar",
    },
    values=lambda e: (
        e.playback_id,
        e.mode,
        e.voice_s,
        e.video_s,
        e.watched_s,
        e.completed,
        e.first_frame_ms,
        e.fps,
        "" if e.context is UNSET else context_text(e.context),
    ),
    adds={
        "playbacks": "count(*)",
        "completed": "count(*) FILTER (WHERE completed)",
        "latency_log_sum": "coalesce(sum(ln(first_frame_ms)) FILTER (WHERE first_frame_ms > 0), 0)",
        "latency_samples": "count(*) FILTER (WHERE first_frame_ms > 0)",
        "fps_log_sum": "coalesce(sum(ln(fps)) FILTER (WHERE fps > 0), 0)",
        "fps_samples": "count(*) FILTER (WHERE fps > 0)",
    },
    contexts=_SHOWN,
)
COMPLAINT = Kind(
    label="complaint",
    table="fleet_complaint",
    columns={"playback_id": "uuid", "kind": "varchar"},
    values=lambda e: (e.playback_id, e.kind),
    adds={"complaints": "count(*)"},
    contexts=_COMPLAINED,
)
POWER = Kind(
    label="power",
    table="fleet_powersample",
    columns={
        "window_s": "float8",
        "total_w": "float8",
        "npu_w": "float8",
        "cpu_w": "float8",
        "battery_percent": "float8",
        "estimated": "boolean",
    },
    values=lambda e: (e.window_s, e.total_w, e.npu_w, e.cpu_w, e.battery_percent, e.estimated),
    adds={
        "power_sum_w": "coalesce(sum(total_w) FILTER (WHERE NOT estimated), 0)",
        "power_samples": "count(*) FILTER (WHERE NOT estimated)",
    },
)
HEALTH = Kind(
    label="health",
    table="fleet_healthevent",
    columns={"kind": "varchar", "detail": "varchar", "figures": "jsonb"},
    values=lambda e: (clean(e.kind), clean(e.detail), json.dumps({clean(k): v for k, v in e.figures.items()})),
    adds={},
)

KINDS: dict[type[AnyEvent], Kind] = {
    PlaybackEvent: PLAYBACK,
    Complaint: COMPLAINT,
    PowerSample: POWER,
    HealthEvent: HEALTH,
}


def row(kind: Kind, frame_id: str, outbox_id: str, event: AnyEvent, at: int) -> Row:
    """The event as a row of ``kind``'s temporary table; ``at`` (ms since 1970) is when it happened."""
    return (frame_id, outbox_id, event.seq, moment(at), event.release or "", *kind.values(event))
