"""Two frames with one identity are noticed; restarts, late copies and last words of an ended agent are not taken for
that."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.clones import FORGET_MS, MAX_SESSIONS, STALE_MS, Sessions, from_json, hear, to_json
from fleet.models import AuditEntry, FrameCertificate, FrameSessions, HealthEvent
from fleet.services.sessions import KIND, SHOWN_FOR, cloned, note_sessions
from tests.fleet.factories import make_frame

MINUTE, HOUR = 60_000, 3_600_000
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def alarms(*heard: tuple[int, str]) -> list[bool]:
    known, found = Sessions(), []
    for at, session in heard:
        known, is_clone = hear(known, session, at)
        found.append(is_clone)
    return found


def test_a_session_that_speaks_again_after_another_took_over_shows_a_clone() -> None:
    assert alarms((0, "a"), (HOUR, "b"), (2 * HOUR, "a")) == [False, False, True]


def test_a_thousand_restarts_of_one_frame_show_none_and_stay_small() -> None:
    known = Sessions()
    for number in range(1_000):
        for again in range(3):
            known, is_clone = hear(known, f"session {number}", number * MINUTE + again * 5_000)
            assert not is_clone
    assert len(known.seen) <= MAX_SESSIONS
    assert len(str(to_json(known))) < 4_000


def test_two_that_start_within_three_minutes_are_told_apart_at_their_second_turn() -> None:
    assert alarms((0, "a"), (MINUTE, "b"), (HOUR, "a"), (2 * HOUR, "b")) == [False, False, False, True]


def test_last_words_that_come_after_a_successors_first_are_none() -> None:
    assert not any(alarms((0, "a"), (HOUR, "b"), (HOUR + 80_000, "a"), (2 * HOUR, "b"), (9 * HOUR, "b")))


def test_last_words_of_an_agent_that_was_never_heard_before_are_none() -> None:
    assert not any(alarms((0, "b"), (80_000, "a"), (2 * HOUR, "b"), (9 * HOUR, "c")))


def test_a_day_later_nothing_is_known_any_more() -> None:
    assert not any(alarms((0, "a"), (HOUR, "b"), (FORGET_MS + 1, "a")))


def test_a_session_that_goes_on_is_written_down_once_an_hour() -> None:
    known, _ = hear(Sessions(), "a", 0)
    assert hear(known, "a", 59 * MINUTE)[0] is known
    assert hear(known, "a", HOUR)[0].seen["a"].last == HOUR


@given(
    st.lists(
        st.tuples(
            st.integers(1_000, 30 * HOUR),  # how long the agent runs
            st.lists(st.floats(0, 1), max_size=4),  # when it says hello again
            st.integers(0, 90_000),  # how much later than the successor's first its last words come
        ),
        min_size=1,
        max_size=12,
    )
)
def test_one_frame_is_never_taken_for_two(lives: list[tuple[int, list[float], int]]) -> None:
    heard: list[tuple[int, str]] = []
    at = 0
    for number, (length, times, late) in enumerate(lives):
        heard += [(at + int(length * share), f"{number}") for share in [0.0, *times]]
        heard.append((at + length + late, f"{number}"))
        at += length
        # Only the last words outlive the agent; nobody restarts so often that two agents' last words come at once.
        at += 90_000 if length < 90_000 else 0
    assert not any(alarms(*sorted(heard)))


@given(st.lists(st.sampled_from("ab"), min_size=2, max_size=30), st.integers(STALE_MS, 6 * HOUR))
def test_two_frames_are_noticed_at_the_third_turn_at_the_latest(turns: list[str], pause: int) -> None:
    switches = sum(one != other for one, other in pairwise(turns))
    found = any(alarms(*((number * pause, one) for number, one in enumerate(turns))))
    assert found or switches < 3 or len(turns) * pause > FORGET_MS
    assert switches >= 2 or not found


@pytest.mark.parametrize("data", [None, [], {}, {"current": 5}, {"seen": {"a": {}}}, "x"])
def test_a_row_that_cannot_be_read_begins_anew(data: object) -> None:
    assert not hear(from_json(data), "a", 0)[1]


def _heard(*come: tuple[str, str, float]) -> list[str]:
    return note_sessions([(frame, (session, NOW + timedelta(hours=hours))) for frame, session, hours in come])


@pytest.mark.django_db
def test_it_is_told_once_a_day_and_shown_until_something_is_done() -> None:
    make_frame("frame-1")
    make_frame("frame-2")
    assert _heard(("frame-1", "a", 0), ("frame-2", "x", 0), ("nobody", "q", 0), ("frame-1", "b", 1)) == []
    assert _heard(("frame-1", "a", 2), ("frame-2", "y", 2)) == ["frame-1"]
    assert _heard(("frame-1", "b", 3), ("frame-1", "a", 4)) == ["frame-1"]
    assert HealthEvent.objects.filter(kind=KIND).count() == 1
    assert AuditEntry.objects.filter(action=KIND, subject="frame-1").count() == 1
    assert _heard(("frame-1", "b", 13), ("frame-1", "a", 27)) == ["frame-1"]
    assert HealthEvent.objects.filter(kind=KIND).count() == 2
    last = NOW + timedelta(hours=27)
    assert cloned(["frame-1", "frame-2"], last) == {"frame-1": last}
    assert cloned(["frame-1"], last + SHOWN_FOR) == {}
    FrameCertificate.objects.create(
        frame_id="frame-1",
        serial_hex="1",
        fingerprint="1",
        key_fingerprint="1",
        authority="1",
        der=b"",
        issued_at=NOW,
        not_after=NOW,
        good_until=NOW,
        revoked_at=last + timedelta(hours=1),
    )
    assert cloned(["frame-1"], last + timedelta(hours=2)) == {}


@pytest.mark.django_db
def test_a_session_that_goes_on_costs_no_write() -> None:
    make_frame("frame-1")
    _heard(("frame-1", "a", 0))
    before = FrameSessions.objects.get().changed_at
    _heard(("frame-1", "a", 0.5))
    assert FrameSessions.objects.get().changed_at == before
