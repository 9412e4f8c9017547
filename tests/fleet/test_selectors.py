"""What the console reads about frames."""

from datetime import UTC, date, datetime, timedelta

import pytest
from pytest_django import DjangoAssertNumQueries

from fleet.models import Frame
from fleet.selectors import day_sums, frame_counts, frames_by_release, list_frames, newest_health, overview
from fleet.services.ingest import ingest
from fleet.services.reports import record_reported
from protocol.messages import AnyEvent
from tests.fleet.factories import DAY_MS, RELEASE, batch, complaint, health, make_frame, playback, power, reported

pytestmark = pytest.mark.django_db

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_frames_are_counted_with_those_seen_lately_and_those_that_are_simulated() -> None:
    make_frame("a", simulated=True)
    make_frame("b")
    make_frame("c")
    Frame.objects.filter(pk="a").update(last_seen=NOW - timedelta(minutes=4))
    Frame.objects.filter(pk="b").update(last_seen=NOW - timedelta(minutes=6))
    counts = frame_counts(NOW)
    assert (counts.total, counts.simulated, counts.seen) == (3, 1, 1)


def test_frames_are_counted_by_the_release_they_say_they_run() -> None:
    for name in ("a", "b", "c", "d"):
        make_frame(name, simulated=name == "a")
    for name in ("a", "b"):
        record_reported(name, reported(name))
    counted = [(one.release, one.frames, one.simulated) for one in frames_by_release()]
    assert counted == [("", 2, 0), (RELEASE, 2, 1)]


def test_days_are_summed_over_frames_and_releases_oldest_first() -> None:
    make_frame("a")
    make_frame("b")
    for name in ("a", "b"):
        events: list[AnyEvent] = [
            playback(1),
            playback(2, at=2 * DAY_MS, completed=False, release=None),
            complaint(3),
            power(4, watts=4),
        ]
        ingest([(name, batch(*events, frame_id=name))])
    first, second = day_sums()
    assert (first.day, first.playbacks, first.completed, first.complaints) == (date(1970, 1, 2), 2, 2, 2)
    assert (first.completion_rate, first.complaint_rate, first.mean_power_w) == (1.0, 1.0, 4.0)
    assert (second.completion_rate, second.complaint_rate, second.mean_power_w) == (0.0, 0.0, None)
    assert [one.day for one in day_sums(days=1)] == [date(1970, 1, 3)]


def test_the_newest_health_events_come_first() -> None:
    make_frame()
    for seq in (1, 2, 3):
        ingest([("frame-1", batch(health(seq, at=DAY_MS - seq)))], now=NOW + timedelta(seconds=seq))
    assert [event.seq for event in newest_health(2)] == [3, 2]


def test_the_overview_takes_few_queries_however_many_frames(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    for number in range(20):
        make_frame(f"f{number}")
        ingest([(f"f{number}", batch(playback(1), health(2), frame_id=f"f{number}"))])
    with django_assert_num_queries(4):
        found = overview()
        assert [event.frame.id for event in found.health]
    with django_assert_num_queries(1):
        for frame in list_frames():
            assert not hasattr(frame, "reported")
