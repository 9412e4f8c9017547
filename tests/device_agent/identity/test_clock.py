"""Security time: a wall clock below what is known counts for nothing; signed time counts, forwards only."""

import datetime as dt

import msgspec
import pytest

from device_agent.clock import BUILT, DOCUMENT, SKEW, SecurityClock
from device_agent.storage.journal import MemoryDocuments
from protocol.errors import Refused

HOUR = dt.timedelta(hours=1)
TODAY = BUILT + dt.timedelta(days=200)


def ms(time: dt.datetime) -> int:
    return int(time.timestamp() * 1000)


class Times:
    """A wall clock that can be set, and time that only passes."""

    def __init__(self, wall: dt.datetime) -> None:
        self.wall = wall
        self.passed = 1_000.0
        self.documents = MemoryDocuments({})

    def clock(self, root: int = 1) -> SecurityClock:
        """A new start of the agent."""
        return SecurityClock(self.documents, root, wall=lambda: self.wall.timestamp(), elapsed=lambda: self.passed)

    def wait(self, time: dt.timedelta) -> None:
        self.passed += time.total_seconds()
        self.wall += time


def test_a_wall_clock_that_may_be_right_is_believed() -> None:
    times = Times(TODAY)
    clock = times.clock()
    assert (clock.source, clock.now()) == ("wall", TODAY)


@pytest.mark.parametrize("wall", [dt.datetime(1970, 1, 1, tzinfo=dt.UTC), BUILT - HOUR])
def test_a_wall_clock_before_the_agent_was_made_is_not(wall: dt.datetime) -> None:
    clock = Times(wall).clock()
    assert (clock.source, clock.now()) == (None, None)
    assert clock.date_ms() == ms(wall), "events keep whatever date there is"


def test_a_wall_clock_before_something_signed_is_not_believed_also_after_a_restart() -> None:
    times = Times(TODAY)
    times.clock().witness(ms(TODAY))
    times.wall = TODAY - SKEW
    assert times.clock().source == "wall", "two clocks never agree"
    times.wall = TODAY - SKEW - dt.timedelta(seconds=1)
    assert times.clock().now() is None


def test_a_wrong_wall_clock_never_raises_the_floor() -> None:
    times = Times(TODAY + dt.timedelta(days=5_000))
    clock = times.clock()
    assert clock.now() == times.wall
    times.wall = TODAY
    assert clock.now() == TODAY, "once it is set right, all is well again"


def test_a_doubted_wall_clock_is_not_believed_until_the_time_has_been_told() -> None:
    times = Times(TODAY - dt.timedelta(days=90))
    clock = times.clock()
    clock.doubt()
    assert clock.now() is None
    clock.learn(ms(TODAY))
    assert (clock.source, clock.now()) == ("signed", TODAY)
    assert times.clock().now() is None, "the time that was told is above it now"


def test_signed_time_goes_on_by_itself_whatever_the_wall_does() -> None:
    times = Times(dt.datetime(1970, 1, 1, tzinfo=dt.UTC))
    clock = times.clock()
    clock.learn(ms(TODAY))
    assert (clock.source, clock.now()) == ("signed", TODAY)
    times.wait(3 * HOUR)
    assert clock.now() == TODAY + 3 * HOUR
    times.wall = TODAY + dt.timedelta(days=4_000)
    assert clock.now() == TODAY + 3 * HOUR
    assert clock.date_ms() == ms(TODAY + 3 * HOUR)


def test_signed_time_cannot_go_back() -> None:
    times = Times(BUILT - HOUR)
    clock = times.clock()
    clock.learn(ms(TODAY))
    for again in (clock, times.clock()):
        with pytest.raises(Refused, match="lies before"):
            again.learn(ms(TODAY - HOUR))
    assert clock.now() == TODAY


def test_the_floor_is_written_at_most_hourly() -> None:
    times = Times(TODAY)
    written: list[bytes] = []
    save = times.documents.save

    def count(name: str, document: bytes) -> None:
        written.append(document)
        save(name, document)

    times.documents.save = count  # type: ignore[method-assign]
    clock = times.clock()
    for minute in range(180):
        clock.witness(ms(TODAY + dt.timedelta(minutes=minute)))
    assert len(written) == 3
    assert clock.floor == TODAY + dt.timedelta(minutes=179)


def test_what_a_stolen_key_signed_counts_no_more_under_the_next_root() -> None:
    times = Times(TODAY)
    clock = times.clock(root=3)
    clock.witness(ms(TODAY + dt.timedelta(days=3_000)))
    assert clock.now() is None
    clock.rooted(3)
    assert clock.now() is None
    clock.rooted(4)
    assert clock.now() == TODAY
    assert times.clock(root=4).now() == TODAY, "also after a restart"
    assert times.clock(root=3).now() is None


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b'{"at":-1,"root":1}', b"\xff" * 9])
def test_a_damaged_floor_counts_for_nothing(document: bytes) -> None:
    times = Times(TODAY)
    times.documents.save(DOCUMENT, document)
    assert times.clock().now() == TODAY


def test_a_full_disk_costs_the_floor_no_more_than_a_restart() -> None:
    times = Times(TODAY)

    def full(name: str, document: bytes) -> None:
        raise OSError(28, "No space left on device")

    times.documents.save = full  # type: ignore[method-assign]
    clock = times.clock()
    clock.witness(ms(TODAY))
    assert clock.floor == TODAY


def test_times_at_the_end_of_the_calendar_are_not_believed() -> None:
    clock = SecurityClock(MemoryDocuments({}), 1, wall=lambda: 1e15, elapsed=lambda: 0.0)
    assert clock.now() is None
    assert clock.date_ms() == 253_402_300_799_999, "what a message can carry"
    assert SecurityClock(MemoryDocuments({}), 1, wall=lambda: -5.0).date_ms() == 0
    clock.witness(253_402_300_799_999)
    assert msgspec.json.decode(msgspec.json.encode(clock.floor)), "it is a date"


def test_a_signed_time_at_the_end_of_the_calendar_stays_there_and_can_be_doubted() -> None:
    now = [0.0]
    clock = SecurityClock(MemoryDocuments({}), 1, wall=lambda: 0.0, elapsed=lambda: now[0])
    clock.learn(253_402_300_799_999)
    now[0] = 1e6
    assert clock.date_ms() == 253_402_300_799_999
    clock.doubt()
    assert (clock.now(), clock.source) == (None, None)
