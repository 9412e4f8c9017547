"""Now, as people and rollouts live it."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from fleet import clock
from protocol.clock import PeopleClock


def test_it_is_real_time_unless_somebody_hurries(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.FRAMEFLEET_PEOPLE_CLOCK = None
    before = timezone.now()
    assert before <= clock.now() <= timezone.now()
    assert not clock.is_hurried()
    clock.warn_if_hurried()
    assert not caplog.records


def test_a_demonstrations_days_pass_in_seconds(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    began = datetime(2026, 3, 1, tzinfo=UTC)
    settings.FRAMEFLEET_PEOPLE_CLOCK = PeopleClock(int(began.timestamp() * 1000), days_ago=60, day_seconds=20)
    monkeypatch.setattr(timezone, "now", lambda: began + timedelta(seconds=50))
    assert clock.now() == began - timedelta(days=60) + timedelta(days=2.5)
    assert clock.is_hurried()


def test_how_long_people_s_days_really_took(settings: Any) -> None:
    day = datetime(2026, 1, 1, tzinfo=UTC)
    assert clock.really(day, day + timedelta(days=2)) == timedelta(days=2)
    began = datetime(2026, 3, 1, tzinfo=UTC)
    settings.FRAMEFLEET_PEOPLE_CLOCK = PeopleClock(int(began.timestamp() * 1000), days_ago=60, day_seconds=20)
    assert clock.really(day, day + timedelta(days=2)) == timedelta(seconds=40)


def test_who_hurries_is_told_never_to_do_so_with_real_frames(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.FRAMEFLEET_PEOPLE_CLOCK = PeopleClock(0, days_ago=60, day_seconds=20)
    with caplog.at_level(logging.WARNING):
        clock.warn_if_hurried()
    assert "a day takes 20 seconds here" in caplog.text
    assert "Never set it where real frames are." in caplog.text
