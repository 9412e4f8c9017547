"""Events are dated by clocks that were put right: a frame whose clock is days off moves no day."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet import metrics
from fleet.models import Frame, FrameDay, HealthEvent, Playback
from fleet.services.event_times import MAX_WAIT, SKEW, Clocks, millis
from fleet.services.ingest import ingest
from protocol.messages import TelemetryBatch
from tests.fleet.factories import batch, health, make_frame, playback

NOW = datetime(2026, 3, 10, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)


def sent(told: datetime, *happened: datetime, frame_id: str = "frame-1") -> TelemetryBatch:
    """A batch that the frame's clock dates ``told``, of playbacks that it dates ``happened``."""
    events = [playback(seq, at=millis(at)) for seq, at in enumerate(happened, start=1)]
    return batch(*events, frame_id=frame_id, sent_at=millis(told))


def stored() -> list[datetime]:
    return list(Playback.objects.order_by("seq").values_list("at", flat=True))


@pytest.mark.django_db
@pytest.mark.parametrize("wrong", [timedelta(days=-900), timedelta(days=-3), timedelta(hours=-2), timedelta(days=3)])
def test_a_clock_that_is_far_off_moves_no_day(wrong: timedelta) -> None:
    make_frame()
    happened = [NOW - 20 * HOUR, NOW - HOUR]
    ingest([("frame-1", sent(NOW + wrong, *(at + wrong for at in happened)))], NOW)
    assert stored() == happened
    assert set(FrameDay.objects.values_list("day", flat=True)) == {date(2026, 3, 9), date(2026, 3, 10)}


@pytest.mark.django_db
def test_a_clock_that_is_almost_right_is_believed_and_nothing_lies_in_the_future() -> None:
    make_frame()
    ahead = timedelta(minutes=2)
    assert ahead < SKEW
    ingest([("frame-1", sent(NOW + ahead, NOW - HOUR, NOW + ahead))], NOW)
    assert stored() == [NOW - HOUR, NOW]


@pytest.mark.django_db
def test_a_frame_that_does_not_say_when_it_sent_is_only_kept_out_of_the_future() -> None:
    make_frame()
    come = batch(playback(1, at=millis(NOW - 3 * HOUR)), playback(2, at=millis(NOW + 90 * HOUR)))
    ingest([("frame-1", come)], NOW)
    assert stored() == [NOW - 3 * HOUR, NOW]


@pytest.mark.django_db
def test_of_an_event_that_comes_again_the_first_date_counts() -> None:
    make_frame()
    wrong = timedelta(days=-2)
    ingest([("frame-1", sent(NOW + wrong, NOW + wrong - HOUR))], NOW)
    right = sent(NOW + HOUR, NOW + wrong - HOUR)  # its clock was set meanwhile
    ingest([("frame-1", right)], NOW + HOUR)
    assert stored() == [NOW - HOUR]
    assert FrameDay.objects.get().playbacks == 1


@pytest.mark.django_db
def test_one_frames_clock_is_no_other_frames() -> None:
    make_frame("frame-1")
    make_frame("frame-2")
    late = timedelta(days=5)
    ingest(
        [
            ("frame-1", sent(NOW - late, NOW - late - HOUR)),
            ("frame-2", sent(NOW, NOW - 2 * HOUR, frame_id="frame-2")),
        ],
        NOW,
    )
    assert sorted(stored()) == [NOW - 2 * HOUR, NOW - HOUR]


@pytest.mark.django_db
def test_what_was_redated_is_counted_by_why() -> None:
    make_frame()

    def counted() -> tuple[float, float]:
        skew, future = (metrics.EVENTS_REDATED.labels(why)._value.get() for why in ("skew", "future"))
        return skew, future

    before = counted()
    ingest([("frame-1", sent(NOW - 5 * HOUR, NOW - 6 * HOUR))], NOW)
    ingest([("frame-1", batch(health(9, at=millis(NOW + HOUR))))], NOW)
    assert [b - a for a, b in zip(before, counted(), strict=True)] == [1, 1]
    assert HealthEvent.objects.get().at == NOW


def clocks(*heard: tuple[datetime, bool]) -> int:
    found = Clocks()
    for told, prompt in heard:
        found.hear("frame-1", sent(told, told), NOW, prompt=prompt)
    return found.shift_ms("frame-1")


def test_a_message_that_may_have_waited_for_the_bridge_proves_no_slow_clock() -> None:
    assert clocks((NOW - 8 * HOUR, False)) == 0
    assert clocks((NOW + 8 * HOUR, False)) == -8 * 3_600_000
    assert clocks((NOW - MAX_WAIT - HOUR, False)) == 25 * 3_600_000


def test_one_that_was_sent_just_now_outweighs_those_that_waited() -> None:
    assert clocks((NOW - 30 * HOUR, False), (NOW, True)) == 0
    assert clocks((NOW - 2 * HOUR, True), (NOW - 8 * HOUR, False)) == 2 * 3_600_000


def test_of_several_the_one_that_was_least_on_its_way_counts() -> None:
    assert clocks((NOW - 3 * HOUR, True), (NOW - 2 * HOUR, True)) == 2 * 3_600_000
    assert clocks((NOW - HOUR, True), (NOW, True)) == 0


@pytest.mark.django_db
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 20 * 86_400_000), min_size=1, max_size=5),
    st.one_of(st.none(), st.integers(-(10**12), 10**12)),
)
def test_whatever_a_clock_says_nothing_lies_in_the_future(ages: list[int], wrong: int | None) -> None:
    base = millis(NOW)
    told = [max(base - age + (wrong or 0), 0) for age in ages]
    events = [playback(seq, at=at) for seq, at in enumerate(told, start=1)]
    come = batch(*events, sent_at=max(base + wrong, 0)) if wrong is not None else batch(*events)
    if not Frame.objects.exists():
        make_frame()
    Playback.objects.all().delete()
    ingest([("frame-1", come)], NOW)
    assert all(at <= NOW for at in stored())
