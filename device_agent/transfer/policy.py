"""Whether a frame may fetch now. Pure: the policy, the time in the frame's own zone and what it used today go in."""

import datetime as dt

from protocol.messages import TransferPolicy

_DAY_MINUTES = 24 * 60


def may_fetch(policy: TransferPolicy, local: dt.datetime, used_today: int, length: int) -> float:
    """Seconds until ``length`` bytes more may be fetched; 0 for now.

    The first chunk of a day is always allowed, however small the budget, so that a download ends one day.
    """
    if policy.daily_bytes is not None and used_today and used_today + length > policy.daily_bytes:
        return _seconds_until(_DAY_MINUTES, local)
    if policy.quiet_from is None or policy.quiet_to is None:
        return 0.0
    if not _within(local.hour * 60 + local.minute, policy.quiet_from, policy.quiet_to):
        return 0.0
    end = policy.quiet_to
    if end * 60 <= _second_of_day(local):
        end += _DAY_MINUTES
    return _seconds_until(end, local)


def _within(minute: int, start: int, end: int) -> bool:
    if start <= end:
        return start <= minute < end
    return minute >= start or minute < end


def _second_of_day(local: dt.datetime) -> float:
    return local.hour * 3_600 + local.minute * 60 + local.second + local.microsecond / 1e6


def _seconds_until(minute: int, local: dt.datetime) -> float:
    """By the clock on the wall; a change of summer time in between is seen when the frame looks again."""
    return minute * 60 - _second_of_day(local)
