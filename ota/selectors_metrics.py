"""What a rollout did to people, from the frame-day roll-up: playbacks, completion, complaints and power."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Max, QuerySet, Sum

from fleet.models import FrameDay
from ota.models import Rollout

WINDOW = dt.timedelta(days=28)
"""How far back from the newest day rows count."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """``completion_rate`` 0 to 1, ``complaint_rate`` complaints per playback, ``power_w`` mean watts; each None where
    nothing was measured. ``frames`` gave them."""

    frames: int
    playbacks: int
    completed: int
    completion_rate: float | None
    complaints: int
    complaint_rate: float | None
    power_w: float | None


@dataclass(frozen=True, kw_only=True)
class MetricRow(Figures):
    """Figures of one arm under one release; ``release_name`` is "name version", or "" for a release unknown here."""

    arm: str
    release: str
    release_name: str


@dataclass(frozen=True, kw_only=True)
class DayRow(Figures):
    """Figures of one arm on one day (UTC), whatever release played."""

    day: dt.date
    arm: str


def metric_rows(rollout: Rollout, names: Mapping[str, str]) -> tuple[MetricRow, ...]:
    """Rows by arm and release over WINDOW. ``names``: digest -> name."""
    rows = _totals(_days(rollout), _ARM, "release")
    found = [
        MetricRow(arm=row[_ARM], release=row["release"], release_name=names.get(row["release"], ""), **_figures(row))
        for row in rows
    ]
    return tuple(sorted(found, key=lambda row: (row.arm, row.release_name, row.release)))


def daily_rows(rollout: Rollout) -> tuple[DayRow, ...]:
    """Rows by day and arm over WINDOW, in order."""
    rows = _totals(_days(rollout), "day", _ARM)
    found = [DayRow(day=row["day"], arm=row[_ARM], **_figures(row)) for row in rows]
    return tuple(sorted(found, key=lambda row: (row.day, row.arm)))


_ARM = "frame__deployments__arm"


def _days(rollout: Rollout) -> QuerySet[FrameDay]:
    # The newest day counts back, not today: telemetry may run on another clock than the server's.
    days = FrameDay.objects.filter(frame__deployments__rollout=rollout)
    newest = days.aggregate(newest=Max("day"))["newest"]
    return days.none() if newest is None else days.filter(day__gt=newest - WINDOW)


def _totals(days: QuerySet[FrameDay], *by: str) -> list[dict[str, Any]]:
    return list(
        days.order_by()
        .values(*by)
        .annotate(
            frames=Count("frame", distinct=True),
            n=Sum("playbacks"),
            done=Sum("completed"),
            bad=Sum("complaints"),
            watts=Sum("power_sum_w"),
            samples=Sum("power_samples"),
        )
    )


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    playbacks = row["n"]
    return {
        "frames": row["frames"],
        "playbacks": playbacks,
        "completed": row["done"],
        "completion_rate": row["done"] / playbacks if playbacks else None,
        "complaints": row["bad"],
        "complaint_rate": row["bad"] / playbacks if playbacks else None,
        "power_w": row["watts"] / row["samples"] if row["samples"] else None,
    }
