"""The simulated people's moments. Tolerances are four standard errors of the sample, so a seed rarely matters."""

import math
import statistics
from collections import Counter
from itertools import pairwise

import pytest

from protocol.clock import DAY_MS
from protocol.messages import Complaint, PlaybackEvent, PowerSample
from simulator.people import ASSUMED, MAX_STEP_DAYS, Household, PeopleEvent, logistic, segment_of

RELEASE = "a" * 64
START = 20_000 * DAY_MS
DAYS = 40
GOOD, BAD = ASSUMED.lip_reference_mm, ASSUMED.bad_lip_mm


def lives(count: int, lip_mm: float, *, days: int = DAYS, seed: int = 5) -> list[list[PeopleEvent]]:
    """The events of some households."""
    found = []
    for number in range(count):
        people = Household(seed, f"frame-{number}", START)
        events: list[PeopleEvent] = []
        for day in range(1, days + 1):
            events += people.live(START + day * DAY_MS, RELEASE, lip_mm)
        found.append(events)
    return found


def playbacks(events: list[PeopleEvent]) -> list[PlaybackEvent]:
    return [event for event in events if isinstance(event, PlaybackEvent)]


@pytest.fixture(scope="module")
def good() -> list[list[PeopleEvent]]:
    return lives(600, GOOD)


@pytest.fixture(scope="module")
def bad() -> list[list[PeopleEvent]]:
    return lives(600, BAD)


def completion(households: list[list[PeopleEvent]]) -> float:
    """Mean over households: the household is the unit."""
    played = [playbacks(events) for events in households]
    return statistics.fmean(statistics.fmean(p.completed for p in one) for one in played if len(one) >= 10)


def test_households_play_five_films_a_day_and_differ_as_a_gamma_does(good: list[list[PeopleEvent]]) -> None:
    daily = [len(playbacks(events)) / DAYS for events in good]
    spread = math.sqrt(ASSUMED.activity_shape) * ASSUMED.activity_scale
    assert statistics.fmean(daily) == pytest.approx(5.0, abs=4 * spread / math.sqrt(len(daily)) + 0.1)
    assert statistics.stdev(daily) == pytest.approx(spread, rel=0.2)


def test_completion_is_78_percent_and_a_tenth_of_its_variance_lies_between_households(
    good: list[list[PeopleEvent]],
) -> None:
    shares = [statistics.fmean(p.completed for p in one) for one in map(playbacks, good) if len(one) >= 20]
    counts = [len(one) for one in map(playbacks, good) if len(one) >= 20]
    mean = statistics.fmean(shares)
    total = mean * (1 - mean)
    assert mean == pytest.approx(0.78, abs=4 * math.sqrt(0.1 * total / len(shares)) + 0.005)
    within = statistics.fmean(total * 0.9 / count for count in counts)
    icc = (statistics.variance(shares) - within) / total
    assert icc == pytest.approx(0.10, abs=0.03)


def test_complaints_are_rare_clustered_and_linked_to_a_playback(good: list[list[PeopleEvent]]) -> None:
    complaints = [event for events in good for event in events if isinstance(event, Complaint)]
    played = {p.playback_id: p for events in good for p in playbacks(events)}
    rate = len(complaints) / len(played)
    expected = ASSUMED.incident_rate * ASSUMED.complaints_per_incident
    assert expected / 2 < rate < expected * 2
    assert all(complaint.at >= played[complaint.playback_id].at for complaint in complaints)
    per_household = Counter(sum(isinstance(event, Complaint) for event in events) for events in good)
    assert per_household[0] > 0.4 * len(good), "frailty: most households never complain"


def test_worse_lips_bring_complaints_and_cost_some_completion(
    good: list[list[PeopleEvent]], bad: list[list[PeopleEvent]]
) -> None:
    def rate(households: list[list[PeopleEvent]]) -> float:
        played = sum(len(playbacks(events)) for events in households)
        return sum(isinstance(event, Complaint) for events in households for event in events) / played

    assert 4 < rate(bad) / rate(good) < 12
    assert completion(good) - completion(bad) == pytest.approx(ASSUMED.completion_points, abs=0.02)


def test_rates_follow_the_lip_error_and_stop_at_the_worst() -> None:
    assert ASSUMED.incidents(GOOD) == pytest.approx(ASSUMED.incident_rate)
    assert ASSUMED.incidents(BAD) == pytest.approx(ASSUMED.incident_rate * ASSUMED.incident_factor)
    assert ASSUMED.incidents(9.0) == ASSUMED.incidents(ASSUMED.worst_lip_mm) < 0.05
    middle = math.log(ASSUMED.completion / (1 - ASSUMED.completion))
    assert logistic(middle + ASSUMED.completion_shift(BAD)) == pytest.approx(
        ASSUMED.completion - ASSUMED.completion_points
    )


def test_the_same_release_is_felt_only_through_its_lip_error(good: list[list[PeopleEvent]]) -> None:
    people = Household(5, "frame-0", START)
    other = [
        event for day in range(1, DAYS + 1) for event in people.live(START + day * DAY_MS, "b" * 64, GOOD)
    ]  # another release that moves the lips as well
    first = [(type(event), event.at) for event in good[0]]
    assert [(type(event), event.at) for event in other] == first


def test_power_is_4_8_watts_and_frames_differ(good: list[list[PeopleEvent]]) -> None:
    means = [
        statistics.fmean(event.total_w for event in events if isinstance(event, PowerSample))
        for events in good
        if playbacks(events)
    ]
    assert statistics.fmean(means) == pytest.approx(4.8, abs=4 * 0.41 / math.sqrt(len(means)) + 0.02)
    assert statistics.stdev(means) == pytest.approx(0.4, rel=0.15)


def test_evenings_are_busy_and_nights_quiet(good: list[list[PeopleEvent]]) -> None:
    hours = Counter(p.at % DAY_MS // 3_600_000 for events in good for p in playbacks(events))
    evening, night = sum(hours[hour] for hour in range(18, 22)), sum(hours[hour] for hour in range(1, 5))
    assert evening > 8 * night


def test_voices_last_under_five_seconds_on_average(good: list[list[PeopleEvent]]) -> None:
    voices = [p.voice_s for events in good for p in playbacks(events)]
    assert statistics.fmean(voices) == pytest.approx(4.7, abs=0.1)
    assert all(0 < p.watched_s <= p.video_s for events in good for p in playbacks(events))
    assert all(p.completed == (p.watched_s == p.video_s) for events in good for p in playbacks(events))


def test_small_steps_and_large_ones_live_the_same_life() -> None:
    once = Household(3, "frame", START)
    often = Household(3, "frame", START)
    whole = list(once.live(START + DAY_MS, RELEASE, GOOD))
    steps = [event for step in range(1, 401) for event in often.live(START + step * DAY_MS // 400, RELEASE, GOOD)]
    assert steps == whole


def test_another_seed_is_another_life() -> None:
    assert lives(1, GOOD, seed=1) == lives(1, GOOD, seed=1)
    assert lives(1, GOOD, seed=1) != lives(1, GOOD, seed=2)


def test_events_come_in_order_and_a_blank_frame_plays_nothing() -> None:
    people = Household(1, "frame", START)
    assert not list(people.live(START + DAY_MS, None, None))
    assert not list(people.live(START + 2 * DAY_MS, RELEASE, None)), "not measured yet: nobody can say how it looks"
    times = [p.at for p in playbacks(list(people.live(START + 4 * DAY_MS, RELEASE, GOOD)))]
    assert times[0] >= START + 2 * DAY_MS
    assert all(before <= after for before, after in pairwise(times))


def test_a_process_that_stood_still_does_not_flood() -> None:
    people = Household(1, "frame", START)
    events = list(people.live(START + 1_000 * DAY_MS, RELEASE, GOOD))
    assert all(event.at >= START + (1_000 - MAX_STEP_DAYS) * DAY_MS for event in events)


@pytest.mark.parametrize(("locale", "segment"), [("zh", "mandarin"), ("zh-TW", "mandarin"), ("en", "base")])
def test_a_household_sees_the_lips_of_its_own_segment(locale: str, segment: str) -> None:
    assert segment_of(locale) == segment
