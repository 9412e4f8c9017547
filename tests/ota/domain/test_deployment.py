"""A Deployment only goes forward, whatever reports come in whatever order."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota.domain.deployment import (
    FAILURES,
    FINISHED,
    IN_FLIGHT,
    PROGRESS,
    TRANSITIONS,
    DeploymentState,
    Offer,
    Report,
    is_dark,
    move,
    plays,
    said,
)

S = DeploymentState
NEW, OLD, OTHER = "a" * 64, "b" * 64, "c" * 64
OFFER = Offer(NEW, 7)
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
heard = st.sampled_from([*PROGRESS[2:], *sorted(FINISHED)])
"""What a report can say."""


def rank(state: DeploymentState) -> int:
    return len(PROGRESS) if state in FINISHED else PROGRESS.index(state)


@given(st.sampled_from([*PROGRESS, *sorted(FINISHED)]), st.lists(heard, max_size=30))
def test_progress_never_goes_back(state: DeploymentState, reports: list[DeploymentState]) -> None:
    for to in reports:
        after = move(state, to)
        assert rank(after) >= rank(state)
        state = after


@given(st.sampled_from([S.COMMITTED, S.RETURNING, S.RETURNED]), st.lists(heard, max_size=30))
def test_no_report_leaves_committed_nor_the_way_back(state: DeploymentState, reports: list[DeploymentState]) -> None:
    assert all(move(state, to) is state for to in reports)


@given(st.sampled_from(sorted(FAILURES)), st.lists(heard, max_size=30))
def test_a_failure_stays_unless_the_release_plays_after_all(
    state: DeploymentState, reports: list[DeploymentState]
) -> None:
    expected = S.COMMITTED if S.COMMITTED in reports else state
    for to in reports:
        state = move(state, to)
    assert state is expected


def test_whatever_was_offered_can_be_told_to_return_unless_it_went_back_itself() -> None:
    assert {state for state, to in TRANSITIONS.items() if S.RETURNING in to} == {*IN_FLIGHT, S.DARK, S.COMMITTED}
    assert move(S.RETURNING, S.RETURNED) is S.RETURNED


def test_every_state_has_a_row_and_dark_is_reached_in_flight_only() -> None:
    assert set(TRANSITIONS) == set(DeploymentState)
    assert {state for state, to in TRANSITIONS.items() if S.DARK in to} == IN_FLIGHT


def test_a_dark_frame_that_speaks_goes_on() -> None:
    assert move(S.DARK, S.DOWNLOADING) is S.DOWNLOADING
    assert move(S.DARK, S.COMMITTED) is S.COMMITTED


@pytest.mark.parametrize(
    ("report", "meaning"),
    [
        (Report("downloading", OLD, NEW, 7), S.DOWNLOADING),
        (Report("trial", OLD, NEW, 8), S.TRIAL),
        (Report("failed", OLD, NEW, 7), S.FAILED),
        (Report("reverted", OLD, NEW, 7), S.REVERTED),
        (Report("committed", NEW, "", 7), S.COMMITTED),
        (Report("idle", NEW, "", 3), S.COMMITTED),  # had it before the offer
        (Report("downloading", NEW, OTHER, 9), S.COMMITTED),  # plays it, and fetches the next one already
        (Report("failed", NEW, OTHER, 9), S.COMMITTED),
        (Report("failed", OLD, NEW, 6), None),  # an earlier offer of the same release
        (Report("trial", NEW, NEW, 6), None),
        (Report("idle", OLD, "", 7), None),  # whatever it refused: it names no release
        (Report("committed", OLD, "", 7), None),  # "success" while still on the old version
        (Report("failed", OLD, OTHER, 7), None),
        (Report("downloading", "", OTHER, 7), None),
    ],
)
def test_what_a_report_says_about_an_offer(report: Report, meaning: DeploymentState | None) -> None:
    assert said(report, OFFER) is meaning


def test_a_frame_on_trial_has_not_committed() -> None:
    on_probation = Report("trial", NEW, NEW, 7)
    assert said(on_probation, OFFER) is S.TRIAL
    assert not plays(on_probation, NEW)
    assert said(Report("trial", OLD, NEW, 7), OFFER) is S.TRIAL


def test_a_release_that_goes_back_from_probation_has_not_made_it() -> None:
    state = move(S.TRIAL, said(Report("reverted", OLD, NEW, 7), OFFER) or S.TRIAL)
    assert state is S.REVERTED


def test_going_back_from_probation_on_the_directors_word_says_nothing_about_the_release() -> None:
    assert said(Report("committed", OLD, "", 8), OFFER) is None


def test_dark_is_a_day_of_silence_since_the_offer() -> None:
    day = dt.timedelta(hours=24)
    assert is_dark(NOW, None, NOW + day)
    assert is_dark(NOW, NOW - day, NOW + day)  # silence before the offer does not count
    assert not is_dark(NOW, None, NOW + day - dt.timedelta(seconds=1))
    assert not is_dark(NOW, NOW + dt.timedelta(hours=1), NOW + day)
