"""What the tables know of a rollout's frames, as arrays: one query each, however many rows.

Times are seconds since 1970 UTC, infinity for never. Everybody who belongs to the rollout is read, offered or not:
whoever is bricked, silent or retired stays in. Rows of ``fleet_frameday`` are summed over releases; which of them were
played under the rollout's own release is kept beside.

Power samples that no meter measured say nothing about a release: they are not in FrameDay's sums, and not read here.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from django.db import connection
from numpy.typing import NDArray

from ota.domain.analysis.policy import COMPLETION, FPS, LATENCY, POWER
from ota.domain.analysis.table import FloatArray, IntArray
from ota.domain.deployment import FAILURES
from ota.models import Rollout
from ota.services.copied import Columns, copied
from protocol.errors import Reason

DAY_S = 86_400
BASELINE_DAYS = 28
"""Past from which a frame's own level of each measure is known ..."""
COMPLAINT_DAYS = 90
"""... and from which its complaints are."""
CRASHES = ("playback_failed", Reason.TRIAL_FAILED.value)
"""Health events of films that broke off, on trial or after it. A fault of the NPU is none: it is told once for each
release, so whoever gets a new one would tell it again."""

SUMS: Mapping[str, tuple[str, str]] = {
    COMPLETION: ("completed", "playbacks"),
    POWER: ("power_sum_w", "power_samples"),
    LATENCY: ("latency_log_sum", "latency_samples"),
    FPS: ("fps_log_sum", "fps_samples"),
}
"""Measure -> columns of ``fleet_frameday``: the sum of its values, and how many there are."""
_SUMMED = {column: "float8" if "_sum" in column else "int4" for pair in SUMS.values() for column in pair}

_TIMES = "coalesce(extract(epoch FROM {0})::float8, '{1}'::float8)"
_FAILED = (
    "CASE WHEN d.state = ANY(%(failures)s) AND d.attempts > coalesce((%(retries)s::jsonb ->> d.reason)::int, -1) "
    "THEN d.failed_at END"
)
"""What is tried again has not failed yet, and whoever runs the release in the end has not failed at all. A film that
broke off on the way is a crash all the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """The rollout's Deployments, ascending by ``id``, and what is known of their frames."""

    id: IntArray
    household: IntArray
    """A number for each household, the same for frames of one home."""
    hardware: IntArray
    """Number of the hardware, from 0, by name."""
    u: FloatArray
    offered: FloatArray
    entered: FloatArray
    """When it came into the rollout; minus infinity for those that were there from the start."""
    left: FloatArray
    failed: FloatArray
    """When it first failed, where it has failed for good."""
    dark: FloatArray
    enrolled: FloatArray
    last_seen: FloatArray
    targeted: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.id)

    def known(self, found: Columns) -> Columns:
        """``found`` without the rows of Deployments that came in after these were read: newer ones have larger ids."""
        last = self.id[-1] if len(self) else -1
        new = found["id"] > last
        return {name: values[~new] for name, values in found.items()} if new.any() else found

    def place(self, ids: IntArray) -> IntArray:
        """Where each of these ids is."""
        return np.searchsorted(self.id, ids)


def members(rollout: Rollout, retries: Mapping[Reason, int]) -> Members:
    """Everybody in the rollout; ``retries`` are the plan's."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT f.hardware FROM fleet_frame f JOIN ota_deployment d ON d.frame_id = f.id "
            "WHERE d.rollout_id = %s ORDER BY 1",
            [rollout.pk],
        )
        hardware = [name for (name,) in cursor.fetchall()]
    never = {
        "offered": ("d.offered_at", "infinity"),
        "entered": ("d.entered_at", "-infinity"),
        "left": ("d.left_at", "infinity"),
        "failed": (_FAILED, "infinity"),
        "dark": ("d.dark_at", "infinity"),
        "enrolled": ("f.enrolled_at", "infinity"),
        "last_seen": ("f.last_seen", "-infinity"),
    }
    times = ", ".join(_TIMES.format(column, value) for column, value in never.values())
    columns = {"id": "int8", "household": "int8", "hardware": "int4", "u": "float8"}
    columns |= dict.fromkeys(never, "float8") | {"targeted": "bool"}
    found = copied(
        "SELECT d.id, hashtextextended(f.household_id, 0), "  # noqa: S608
        "array_position(%(hardware)s::text[], f.hardware::text) - 1, "
        f"d.u, {times}, coalesce(d.targeted, false) FROM ota_deployment d JOIN fleet_frame f ON f.id = d.frame_id "
        "WHERE d.rollout_id = %(rollout)s ORDER BY d.id",
        {
            "rollout": rollout.pk,
            "hardware": hardware,
            "failures": [state.value for state in FAILURES],
            "retries": json.dumps({reason.value: tries for reason, tries in retries.items()}),
        },
        columns,
    )
    return Members(**found)


def frame_days(rollout: Rollout, first: dt.date, last: dt.date) -> Columns:
    """Rows from ``first`` to ``last``, both included, in any order: id of the Deployment, ``day`` counted from
    ``first``, sums as in ``SUMS``, ``under_release`` and ``complaints``. A frame's day has a row for each release."""
    return copied(
        f"SELECT d.id, day - %(first)s::date, {_sums('f.{0}')}, "  # noqa: S608
        "CASE WHEN f.release = %(release)s THEN f.playbacks ELSE 0 END, f.complaints "
        "FROM fleet_frameday f JOIN ota_deployment d USING (frame_id) "
        "WHERE d.rollout_id = %(rollout)s AND f.day BETWEEN %(first)s AND %(last)s",
        {"rollout": rollout.pk, "release": rollout.release_id, "first": first, "last": last},
        {"id": "int8", "day": "int4", **_SUMMED, "under_release": "int4", "complaints": "int4"},
    )


def history(rollout: Rollout, first: dt.date) -> Columns:
    """The 28 days before ``first``, one row for each frame that has any: sums as in ``SUMS``, and ``since``, which of
    the days before ``first`` has the oldest row, as a negative number."""
    return copied(
        f"SELECT d.id, {_sums('sum(f.{0})')}, min(f.day) - %(first)s::date "  # noqa: S608
        "FROM fleet_frameday f JOIN ota_deployment d USING (frame_id) "
        "WHERE d.rollout_id = %(rollout)s AND f.day >= %(since)s AND f.day < %(first)s GROUP BY d.id",
        {"rollout": rollout.pk, "first": first, "since": first - dt.timedelta(days=BASELINE_DAYS)},
        {"id": "int8", **_SUMMED, "since": "int4"},
    )


def complaint_history(rollout: Rollout, first: dt.date) -> Columns:
    """The 90 days before ``first``, for frames that complained: on how many ``days``, and ``since`` as above."""
    return copied(
        "SELECT d.id, count(DISTINCT f.day), min(f.day) - %(first)s::date "
        "FROM fleet_frameday f JOIN ota_deployment d USING (frame_id) "
        "WHERE d.rollout_id = %(rollout)s AND f.day >= %(since)s AND f.day < %(first)s AND f.complaints > 0 "
        "GROUP BY d.id",
        {"rollout": rollout.pk, "first": first, "since": first - dt.timedelta(days=COMPLAINT_DAYS)},
        {"id": "int8", "days": "int8", "since": "int4"},
    )


def first_complaints(rollout: Rollout, since: dt.datetime, now: dt.datetime) -> Columns:
    """When each frame first complained from ``since`` on."""
    return _first("fleet_complaint", "", rollout, since, now)


def first_crashes(rollout: Rollout, since: dt.datetime, now: dt.datetime) -> Columns:
    """When a film first broke off on each frame, from ``since`` on."""
    return _first("fleet_healthevent", "AND e.outbox_id IS NOT NULL AND e.kind = ANY(%(kinds)s)", rollout, since, now)


def _first(table: str, condition: str, rollout: Rollout, since: dt.datetime, now: dt.datetime) -> Columns:
    return copied(
        f"SELECT d.id, extract(epoch FROM min(e.at))::float8 FROM {table} e "  # noqa: S608
        "JOIN ota_deployment d ON d.frame_id = e.frame_id "
        f"WHERE d.rollout_id = %(rollout)s AND e.at >= %(since)s AND e.at <= %(now)s {condition} GROUP BY d.id",
        {"rollout": rollout.pk, "since": since, "now": now, "kinds": list(CRASHES)},
        {"id": "int8", "at": "float8"},
    )


def after_offer(rollout: Rollout, ids: IntArray, offered: FloatArray, day: dt.date) -> Columns:
    """What these Deployments' frames did on ``day`` from their offer (on that day) on: columns as ``frame_days``, with
    ``complaints``; one row for each frame that did anything. Reads one day of events, not of frames."""
    begin = dt.datetime.combine(day, dt.time(), dt.UTC)
    given = {
        "rollout": rollout.pk,
        "release": rollout.release_id,
        "ids": _array(ids),
        "offered": _array(offered),
        "from": dt.datetime.fromtimestamp(float(offered.min()), dt.UTC),
        "to": begin + dt.timedelta(days=1),
    }
    parts = [
        copied(_AFTER.format(sums=sums, table=table, condition=condition), given, {"id": "int8", **_SUMMED, **_REST})
        for table, sums, condition in _EVENTS
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


_REST = {"under_release": "int4", "complaints": "int4"}
_AFTER = (
    "SELECT o.id, {sums} FROM unnest(%(ids)s::bigint[], %(offered)s::float8[]) AS o(id, since) "
    "JOIN ota_deployment d ON d.id = o.id JOIN {table} e ON e.frame_id = d.frame_id "
    "WHERE e.at >= %(from)s AND e.at < %(to)s AND extract(epoch FROM e.at) >= o.since {condition} GROUP BY o.id"
)


def _named(found: Mapping[str, str]) -> str:
    """The select list of ``after_offer``: what the table has, 0 for the rest."""
    return ", ".join(f"coalesce({found.get(name, '0')}, 0)::{kind}" for name, kind in {**_SUMMED, **_REST}.items())


_EVENTS = (
    (
        "fleet_playback",
        _named(
            {
                "completed": "count(*) FILTER (WHERE e.completed)",
                "playbacks": "count(*)",
                "latency_log_sum": "sum(ln(e.first_frame_ms)) FILTER (WHERE e.first_frame_ms > 0)",
                "latency_samples": "count(*) FILTER (WHERE e.first_frame_ms > 0)",
                "fps_log_sum": "sum(ln(e.fps)) FILTER (WHERE e.fps > 0)",
                "fps_samples": "count(*) FILTER (WHERE e.fps > 0)",
                "under_release": "count(*) FILTER (WHERE e.release = %(release)s)",
            }
        ),
        "",
    ),
    (
        "fleet_powersample",
        _named({"power_sum_w": "sum(e.total_w)", "power_samples": "count(*)"}),
        "AND NOT e.estimated",
    ),
    ("fleet_complaint", _named({"complaints": "count(*)"}), ""),
)


def _sums(form: str) -> str:
    return ", ".join(f"{form.format(column)}::{kind}" for column, kind in _SUMMED.items())


def _array(values: IntArray | FloatArray) -> str:
    """As PostgreSQL reads an array: many times faster than a parameter for each value."""
    return "{" + ",".join(map(repr, values.tolist())) + "}"
