"""When a frame of an open stage may be offered the release: hours, blackout dates, its own moment, rate. Pure.

A plan's windows and blackout dates are told by the frame's own clock on the wall, so each time zone opens by itself.
``u`` is the household's number (``ota.domain.assignment``); frames are offered the release in its order.
"""

import datetime as dt
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ota.domain.plan import Plan, StagePlan, Window

MOST = 3_000
"""Frames offered at once at the very most: every one is signed, and a rollout's row is locked meanwhile."""
MINUTE = dt.timedelta(minutes=1)
MOMENTS = 4_096
"""A frame's moment comes from the digits of u after these: those before say which stage it is in."""
ALWAYS = dt.datetime.min.replace(tzinfo=dt.UTC)
AHEAD_DAYS = 400
RETRY_PAUSE = dt.timedelta(hours=1)
MAX_PAUSE = dt.timedelta(hours=24)


def open_since(plan: Plan, zone: str, now: dt.datetime) -> dt.datetime | None:
    """Since when offers may begin in this time zone; None when they may not now, ALWAYS when nothing says otherwise."""
    if plan.emergency or not (plan.windows or plan.blackout):
        return ALWAYS
    where = _zone(zone)
    here = now.astimezone(where)
    if any(dates.first <= here.date() <= dates.last for dates in plan.blackout):
        return None
    over = [_midnight(dates.last, 1, where) for dates in plan.blackout if dates.last < here.date()]
    since = max(over, default=ALWAYS)
    if not plan.windows:
        return since
    opened = [moment for window in plan.windows if (moment := _opened(window, here, where)) is not None]
    return max(since, min(opened)) if opened else None


def next_opening(plan: Plan, zone: str, now: dt.datetime) -> dt.datetime | None:
    """When offers may begin next in this time zone, in its own time: now where they may; None within AHEAD_DAYS."""
    where = _zone(zone)
    if open_since(plan, zone, now) is not None:
        return now.astimezone(where)
    today = now.astimezone(where).date()
    for day in range(AHEAD_DAYS):
        midnight = _midnight(today, day, where)
        moments = {midnight, *(_at(today, day, window.opens, where) for window in plan.windows)}
        for moment in sorted(moments):
            if moment > now and open_since(plan, zone, moment) is not None:
                return moment.astimezone(where)
    return None


def fraction(u: float) -> float:
    """Where the frame's own moment lies within the plan's jitter, in [0, 1)."""
    return u * MOMENTS - int(u * MOMENTS)


def moment(plan: Plan, u: float, opened: dt.datetime, since: dt.datetime) -> dt.datetime:
    """When the frame's own delay is over: counted from its stage's opening, or its hours' where that came later."""
    wait = 0.0 if plan.emergency else fraction(u) * plan.jitter_s
    return max(opened, since) + dt.timedelta(seconds=wait)


def room(plan: Plan, step: StagePlan, in_flight: int, last_minute: int) -> int:
    """How many frames may be offered the release now, when so many are in flight and so many were in the last minute.
    The stage's own limits go before the plan's."""
    if plan.emergency:
        return MOST
    left = [MOST]
    if (at_once := step.at_once or plan.at_once) is not None:
        left.append(at_once - in_flight)
    if (per_minute := step.per_minute or plan.per_minute) is not None:
        left.append(per_minute - last_minute)
    return max(0, min(left))


def pause(attempts: int) -> dt.timedelta:
    """How long a frame is left alone after its offer number ``attempts`` (from 1) failed: twice as long each time."""
    return min(RETRY_PAUSE * float(2 ** (max(attempts, 1) - 1)), MAX_PAUSE)


def _opened(window: Window, here: dt.datetime, where: dt.tzinfo) -> dt.datetime | None:
    minute = here.hour * 60 + here.minute
    if window.opens < window.closes:
        inside, day = window.opens <= minute < window.closes, 0
    else:
        inside, day = minute >= window.opens or minute < window.closes, 0 if minute >= window.opens else -1
    return _at(here.date(), day, window.opens, where) if inside else None


def _midnight(date: dt.date, days: int, where: dt.tzinfo) -> dt.datetime:
    return _at(date, days, 0, where)


def _at(date: dt.date, days: int, minute: int, where: dt.tzinfo) -> dt.datetime:
    """That minute of the day, so many days after ``date``, in UTC: times are compared, and zones have gaps."""
    day = date + dt.timedelta(days=days)
    local = dt.datetime.combine(day, dt.time(minute // 60, minute % 60), where)
    return local.astimezone(dt.UTC)


def _zone(name: str) -> dt.tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return dt.UTC
