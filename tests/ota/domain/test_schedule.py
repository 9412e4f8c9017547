"""When offers may begin: hours and blackout dates by the clock on the wall, moments, rates."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota.domain import schedule
from ota.domain.plan import Blackout, Plan, StagePlan, Window

STAGE = StagePlan(share=1.0)
NIGHT = Window(opens=22 * 60, closes=6 * 60)
SHANGHAI, NEW_YORK = "Asia/Shanghai", "America/New_York"
ZONES = st.sampled_from(["UTC", SHANGHAI, NEW_YORK, "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"])


def plan(*windows: Window, **fields: object) -> Plan:
    return Plan(stages=[STAGE], windows=list(windows), **fields)  # type: ignore[arg-type]


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def test_offers_may_always_begin_where_nothing_is_said() -> None:
    assert schedule.open_since(plan(), SHANGHAI, utc("2026-12-01T00:00")) == schedule.ALWAYS


@pytest.mark.parametrize(
    ("now", "since"),
    [
        ("2026-12-01T13:59", None),
        ("2026-12-01T14:00", "2026-12-01T14:00"),  # 22:00 in Shanghai
        ("2026-12-01T21:59", "2026-12-01T14:00"),
        ("2026-12-01T22:00", None),
    ],
)
def test_a_window_is_told_by_the_frames_own_clock_and_may_pass_midnight(now: str, since: str | None) -> None:
    assert schedule.open_since(plan(NIGHT), SHANGHAI, utc(now)) == (utc(since) if since else None)


def test_each_zone_opens_by_itself() -> None:
    now = utc("2026-12-02T04:00")
    assert schedule.open_since(plan(NIGHT), NEW_YORK, now) == utc("2026-12-02T03:00")
    assert schedule.open_since(plan(NIGHT), SHANGHAI, now) is None


def test_blackout_dates_close_whole_days_of_the_frames_own() -> None:
    holidays = plan(blackout=[Blackout(first=dt.date(2026, 12, 24), last=dt.date(2026, 12, 26))])
    assert schedule.open_since(holidays, SHANGHAI, utc("2026-12-23T15:59")) == schedule.ALWAYS
    assert schedule.open_since(holidays, SHANGHAI, utc("2026-12-23T16:00")) is None
    assert schedule.open_since(holidays, SHANGHAI, utc("2026-12-26T15:59")) is None
    assert schedule.open_since(holidays, SHANGHAI, utc("2026-12-26T16:00")) == utc("2026-12-26T16:00")


def test_a_night_that_a_blackout_has_eaten_into_begins_at_midnight() -> None:
    both = plan(NIGHT, blackout=[Blackout(first=dt.date(2026, 12, 24), last=dt.date(2026, 12, 24))])
    now = utc("2026-12-24T17:00")  # 01:00 on the 25th in Shanghai
    assert schedule.open_since(both, SHANGHAI, now) == utc("2026-12-24T16:00")
    assert schedule.next_opening(both, SHANGHAI, utc("2026-12-24T00:00")) == utc("2026-12-24T16:00")


def test_an_emergency_knows_no_hours_nor_limits() -> None:
    urgent = plan(NIGHT, emergency=True, jitter_s=3_600, at_once=1, per_minute=1)
    now = utc("2026-12-01T04:00")
    assert schedule.open_since(urgent, SHANGHAI, now) == schedule.ALWAYS
    assert schedule.room(urgent, STAGE, 50, 50) == schedule.MOST
    assert schedule.moment(urgent, 0.99, now, now) == now


def test_an_unknown_zone_is_taken_as_utc() -> None:
    assert schedule.open_since(plan(NIGHT), "Nowhere/../x", utc("2026-12-01T23:00")) == utc("2026-12-01T22:00")


def test_a_plan_without_an_hour_to_come_says_so() -> None:
    forever = plan(blackout=[Blackout(first=dt.date(2026, 1, 1), last=dt.date(2030, 1, 1))])
    assert schedule.next_opening(forever, "UTC", utc("2026-12-01T00:00")) is None


windows = st.lists(
    st.builds(Window, opens=st.integers(0, 1_439), closes=st.integers(0, 1_439)).filter(lambda w: w.opens != w.closes),
    max_size=3,
)
moments = st.datetimes(dt.datetime(2026, 1, 1), dt.datetime(2027, 1, 1)).map(lambda at: at.replace(tzinfo=dt.UTC))


@given(windows, ZONES, moments)
def test_offers_are_open_exactly_within_the_windows_and_since_they_opened(
    given_windows: list[Window], zone: str, now: dt.datetime
) -> None:
    wanted = plan(*given_windows)
    here = now.astimezone(ZoneInfo(zone))
    minute = here.hour * 60 + here.minute

    def holds(window: Window) -> bool:
        if window.opens < window.closes:
            return window.opens <= minute < window.closes
        return minute >= window.opens or minute < window.closes

    since = schedule.open_since(wanted, zone, now)
    assert (since is not None) == (not given_windows or any(map(holds, given_windows)))
    if since is not None:
        assert since <= now + dt.timedelta(hours=2), "but for the hours that a change of clocks leaves out"
    else:
        opens = schedule.next_opening(wanted, zone, now)
        assert opens is not None
        assert opens > now
        assert schedule.open_since(wanted, zone, opens) is not None


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 86_400), moments, moments)
def test_a_moment_lies_within_the_jitter_after_the_opening(
    u: float, jitter: int, opened: dt.datetime, since: dt.datetime
) -> None:
    late = schedule.moment(plan(jitter_s=jitter), u, opened, since) - max(opened, since)
    assert dt.timedelta(0) <= late <= dt.timedelta(seconds=jitter)
    assert 0.0 <= schedule.fraction(u) < 1.0


counts = st.one_of(st.none(), st.integers(1, 5_000))


@given(counts, counts, counts, counts, st.integers(0, 6_000), st.integers(0, 6_000))
def test_no_limit_is_ever_passed(
    at_once: int | None, per_minute: int | None, own: int | None, rate: int | None, flying: int, last: int
) -> None:
    step = StagePlan(share=1.0, at_once=own, per_minute=rate)
    room = schedule.room(plan(at_once=at_once, per_minute=per_minute), step, flying, last)
    assert 0 <= room <= schedule.MOST
    for limit, used in ((own or at_once, flying), (rate or per_minute, last)):
        assert limit is None or room == 0 or used + room <= limit


def test_pauses_grow_and_are_bounded() -> None:
    pauses = [schedule.pause(attempt) for attempt in range(1, 11)]
    assert pauses[0] == schedule.RETRY_PAUSE
    assert pauses == sorted(pauses)
    assert pauses[-1] == schedule.MAX_PAUSE
