"""The clock by which simulated people live."""

from itertools import pairwise

import pytest

from protocol.clock import DAY_MS, EXAMPLE, PeopleClock

BEGAN = 30_000 * DAY_MS


def test_peoples_days_pass_in_seconds_until_they_reach_today() -> None:
    clock = PeopleClock(BEGAN, days_ago=14, day_seconds=15)
    assert clock.at(BEGAN) == clock.start_ms == BEGAN - 14 * DAY_MS
    assert clock.at(BEGAN + 15_000) == BEGAN - 13 * DAY_MS
    later = [clock.at(BEGAN + second * 1000) for second in range(400)]
    assert all(before < after for before, after in pairwise(later))
    assert later[399] == BEGAN + 399_000, "caught up: time is everyone's now"


def test_people_s_time_leads_back_to_real_time() -> None:
    clock = PeopleClock(BEGAN, days_ago=14, day_seconds=15)
    for second in (0, 7, 100, 209, 211, 400):
        real = BEGAN + second * 1000
        assert clock.real(clock.at(real)) == pytest.approx(real, abs=1)


def test_it_stands_until_it_begins() -> None:
    clock = PeopleClock(BEGAN, days_ago=14, day_seconds=15)
    assert clock.at(BEGAN - 60_000) == clock.start_ms


def test_one_text_tells_it_to_every_process() -> None:
    clock = PeopleClock(BEGAN, days_ago=60.5, day_seconds=12.25)
    assert PeopleClock.parse(str(clock)) == clock
    assert str(PeopleClock.parse(EXAMPLE)) == EXAMPLE


@pytest.mark.parametrize("text", ["", "1", "1/2/3/4", "a/2/3", "1/nan/3", "1/2/0", "1/2/1e9", "1/-2/3"])
def test_what_is_no_clock_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not of the form|out of range"):
        PeopleClock.parse(text)
