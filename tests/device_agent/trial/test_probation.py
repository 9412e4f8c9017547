"""A release that passed its golden clips plays, but is committed only after it has proved itself, or goes back."""

import errno
import os

import pytest

from device_agent.installer.machine import MAX_CRASHES, MAX_TRIAL_ATTEMPTS
from device_agent.installer.slots import Journal
from device_agent.ports import TrialPolicy, TrialReport
from device_agent.trial.probation import SAVE_AGAIN_S, SAVE_EVERY_S
from protocol.errors import Reason
from protocol.messages import ReportedState
from tests.device_agent.frame import FRAME, MEASURED, Frame
from tests.device_agent.repository import Published, Repository, desired, in_days

POLICY = TrialPolicy()
HOUR_S = 3_600.0
CRASH = "The renderer ended with signal 11."


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def first(repository: Repository) -> Published:
    return repository.release("portrait", "1.0", [repository.base(b"model" * 100)])


@pytest.fixture
def second(repository: Repository, first: Published) -> Published:
    base = first.targets[0]
    return repository.release("portrait", "1.1", [base, repository.adapter(b"adapter" * 100, base)])


@pytest.fixture
def third(repository: Repository, first: Published) -> Published:
    base = first.targets[0]
    return repository.release("portrait", "1.2", [base, repository.adapter(b"another" * 100, base, "1.2")])


@pytest.fixture
def blank(repository: Repository) -> Frame:
    frame = Frame(repository.retained, repository.anchors(), policy=POLICY)
    frame.trial.report = TrialReport(MEASURED, figures={"step_p99_ms": 9.0, "memory_mb": 90.0})
    frame.connect()
    return frame


@pytest.fixture
def frame(blank: Frame, repository: Repository, first: Published, second: Published) -> Frame:
    """1.0 is committed, 1.1 on probation."""
    offer(blank, repository, 1, first)
    play(blank, first, 3)
    blank.trial.report = TrialReport(MEASURED, figures={"step_p99_ms": 9.5, "memory_mb": 120.0})
    offer(blank, repository, 2, second)
    assert (last(blank).state, last(blank).release) == ("trial", second.release.sha256)
    return blank


def offer(frame: Frame, repository: Repository, version: int, published: Published | None) -> None:
    frame.give(repository.envelope(desired(FRAME, version, published)))


def play(frame: Frame, published: Published, times: int = 1, crash: str | None = None) -> None:
    for _ in range(times):
        frame.run(frame.core.played(frame.now, published.release.sha256, crash))


def last(frame: Frame) -> ReportedState:
    return frame.reports[-1]


def state(frame: Frame) -> str:
    return frame.core.journal.state


def plays(frame: Frame) -> str | None:
    playing = frame.core.playing
    assert playing is None or all(frame.store.has(name) for name in playing.files())
    return None if playing is None else playing.release


# --- long enough ------------------------------------------------------------------------------------------------------


def test_three_playbacks_commit_a_release_and_each_is_told(frame: Frame, first: Published, second: Published) -> None:
    told = last(frame)
    assert (told.state, told.slot, told.target) == ("trial", "B", second.release.sha256)
    assert told.lip_errors == list(MEASURED)
    assert told.figures["step_p99_ms"] == 9.5
    assert (frame.core.journal.active, plays(frame)) == ("A", second.release.sha256), "any doubt falls back"
    counts = []
    for _ in range(3):
        counts.append((last(frame).state, last(frame).figures["playbacks"], last(frame).figures["playbacks_needed"]))
        play(frame, second)
    assert counts == [("trial", 0, 3), ("trial", 1, 3), ("trial", 2, 3)]
    told = last(frame)
    assert (told.state, told.slot, told.target, told.release) == ("committed", "B", None, second.release.sha256)
    assert told.figures == {"step_p99_ms": 9.5, "memory_mb": 120.0, "playbacks": 3.0, "healthy_h": 0.0}
    assert all(frame.store.has(name) for name in (first.release.sha256, second.release.sha256))


def test_24_healthy_hours_commit_a_release_that_nobody_plays(frame: Frame) -> None:
    frame.disconnect()  # healthy time needs no connection
    frame.wait(23.9 * HOUR_S)
    assert state(frame) == "trial"
    frame.wait(0.2 * HOUR_S)
    assert state(frame) == "committed"
    assert frame.core.journal.figures["healthy_h"] == 24.0


def test_healthy_time_is_saved_every_ten_minutes_and_survives_a_restart(
    frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Journal] = []
    save = frame.journal_port.save

    def counted(journal: Journal) -> None:
        saved.append(journal)
        save(journal)

    monkeypatch.setattr(frame.journal_port, "save", counted)
    frame.wait(12 * HOUR_S)
    assert 60 <= len(saved) <= 12 * HOUR_S / SAVE_EVERY_S
    frame.boot()  # a power cut
    frame.connect()
    frame.wait(11.7 * HOUR_S)
    assert state(frame) == "trial"
    frame.wait(0.5 * HOUR_S)
    assert state(frame) == "committed"


def test_only_films_of_the_release_on_probation_count(frame: Frame, first: Published, third: Published) -> None:
    play(frame, first, 5)  # it began before the swap and ended after it
    play(frame, first, crash=CRASH)
    play(frame, third, crash=CRASH)
    assert last(frame).state == "trial"
    assert last(frame).figures["playbacks"] == 0


# --- too much ---------------------------------------------------------------------------------------------------------


def test_a_crash_goes_back_at_once_with_sentence_and_figures(
    frame: Frame, first: Published, second: Published, third: Published, repository: Repository
) -> None:
    play(frame, second)
    frame.wait(2 * HOUR_S)
    play(frame, second, crash=CRASH)
    told = last(frame)
    assert (told.state, told.target, told.release) == ("reverted", second.release.sha256, first.release.sha256)
    assert told.failure is not None
    assert told.failure.reason is Reason.TRIAL_FAILED
    assert told.failure.detail == f"On probation, after 1 playbacks and 2.0 healthy hours: {CRASH}"
    assert told.lip_errors == list(MEASURED)
    assert told.figures == {"step_p99_ms": 9.5, "memory_mb": 120.0, "playbacks": 1.0, "healthy_h": 2.0}
    assert (frame.health[-1].kind, frame.health[-1].figures) == ("trial_failed", told.figures)
    assert plays(frame) == first.release.sha256
    frame.wait(48 * HOUR_S)
    assert len(frame.trial.tried) == 2, "what went back is not tried again by itself"
    offer(frame, repository, 3, third)
    play(frame, third, 3)
    assert (last(frame).state, plays(frame)) == ("committed", third.release.sha256)


def test_a_frame_whose_first_release_crashes_is_blank_again_and_says_so(
    blank: Frame, repository: Repository, first: Published
) -> None:
    offer(blank, repository, 1, first)
    assert plays(blank) == first.release.sha256
    play(blank, first, crash=CRASH)
    assert plays(blank) is None
    assert (last(blank).state, last(blank).release, last(blank).slot) == ("reverted", None, None)
    assert blank.health[-1].detail.endswith("The frame is blank again.")
    assert last(blank).failure is not None


def test_a_power_cut_is_no_crash_but_three_without_a_playback_go_back(
    frame: Frame, first: Published, second: Published
) -> None:
    for _ in range(MAX_TRIAL_ATTEMPTS - 1):
        frame.boot()
        frame.connect()
        assert (last(frame).state, plays(frame)) == ("trial", second.release.sha256)
    play(frame, second)
    for _ in range(MAX_TRIAL_ATTEMPTS - 1):
        frame.boot()
        assert plays(frame) == second.release.sha256
    frame.boot()
    assert plays(frame) == first.release.sha256, "at once, before there is a connection"
    frame.connect()
    assert last(frame).state == "reverted"
    assert last(frame).failure is not None
    assert frame.health[-1].kind == "trial_failed"
    assert "cut off 3 times" in frame.health[-1].detail


def test_an_orderly_stop_counts_for_nothing_and_keeps_the_last_minutes(frame: Frame, second: Published) -> None:
    for _ in range(2 * MAX_TRIAL_ATTEMPTS):
        frame.wait(HOUR_S / 12)
        frame.core.stop(frame.now)
        frame.boot()
        frame.connect()
    assert (last(frame).state, plays(frame)) == ("trial", second.release.sha256)
    assert last(frame).figures["healthy_h"] == 0.5


def test_what_went_back_leaves_no_figures_beside_the_release_that_plays(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    play(frame, second, crash=CRASH)
    assert last(frame).figures["memory_mb"] == 120.0
    offer(frame, repository, 3, first)
    assert (last(frame).state, last(frame).figures["memory_mb"]) == ("committed", 90.0)


# --- another DesiredState ---------------------------------------------------------------------------------------------


def test_the_same_release_again_goes_on_with_probation(frame: Frame, repository: Repository, second: Published) -> None:
    play(frame, second, 2)
    frame.fetched.clear()
    offer(frame, repository, 3, second)
    told = last(frame)
    assert (told.state, told.desired_version, told.figures["playbacks"]) == ("trial", 3, 2)
    assert not frame.fetched
    assert len(frame.trial.tried) == 2
    play(frame, second)
    assert last(frame).state == "committed"


@pytest.mark.parametrize("back_to_nothing", [False, True])
def test_going_back_ends_probation_without_a_failure(
    frame: Frame, repository: Repository, first: Published, second: Published, back_to_nothing: bool
) -> None:
    frame.fetched.clear()
    offer(frame, repository, 3, None if back_to_nothing else first)
    told = last(frame)
    assert (told.state, told.release, told.slot) == (
        "idle" if back_to_nothing else "committed", first.release.sha256, "A",
    )  # fmt: skip
    assert (told.target, told.failure, told.desired_version) == (None, None, 3)
    assert told.figures["memory_mb"] == 90.0, "of the release that plays"
    assert not frame.fetched
    assert not frame.health
    play(frame, second, crash="A film that began before.")
    frame.wait(48 * HOUR_S)
    assert plays(frame) == first.release.sha256


def test_another_release_starts_from_the_committed_one(
    frame: Frame, repository: Repository, first: Published, third: Published
) -> None:
    held = set()

    def look(_: str) -> bool:
        held.add(plays(frame))
        return True

    frame.before_message = look
    offer(frame, repository, 3, third)
    assert held == {first.release.sha256}
    assert (last(frame).state, plays(frame)) == ("trial", third.release.sha256)
    assert last(frame).figures["playbacks"] == 0
    assert frame.core.journal.committed is not None
    assert frame.core.journal.committed.release == first.release.sha256
    play(frame, third, crash=CRASH)
    assert plays(frame) == first.release.sha256


def test_an_accepted_desired_state_is_taken_up_after_a_cut_on_probation(
    frame: Frame, repository: Repository, third: Published
) -> None:
    frame.documents.save("desired", repository.envelope(desired(FRAME, 3, third)))
    frame.boot()
    frame.connect()
    assert (last(frame).desired_version, plays(frame)) == (3, third.release.sha256)


def test_what_anybody_could_send_does_not_disturb_probation(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    frame.give(b"{}")
    frame.give(repository.envelope(desired(FRAME, 1, first)))
    frame.security_now = lambda: in_days(400)
    frame.boot()  # what was accepted has expired since
    frame.connect()
    for version, release in ((3, first), (4, second)):
        offer(frame, repository, version, release)
    assert (last(frame).state, last(frame).desired_version, plays(frame)) == ("trial", 2, second.release.sha256)


# --- a disk that takes nothing ----------------------------------------------------------------------------------------


def full(_: Journal) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_cannot_be_saved_is_counted_all_the_same(
    frame: Frame, second: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as disk:
        disk.setattr(frame.journal_port, "save", full)
        play(frame, second, 3)
        frame.wait(2 * HOUR_S)
        assert state(frame) == "trial"
    frame.wait(SAVE_AGAIN_S)
    assert state(frame) == "committed"


def test_a_release_that_crashed_stops_playing_though_the_journal_cannot_be_saved(
    frame: Frame, first: Published, second: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as disk:
        disk.setattr(frame.journal_port, "save", full)
        play(frame, second, crash=CRASH)
        assert plays(frame) == first.release.sha256
    frame.wait(SAVE_AGAIN_S)
    assert (last(frame).state, plays(frame)) == ("reverted", first.release.sha256)


def test_a_crash_that_could_not_be_saved_is_not_forgotten_by_an_orderly_stop(
    frame: Frame, first: Published, second: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as disk:
        disk.setattr(frame.journal_port, "save", full)
        play(frame, second, crash=CRASH)
    frame.core.stop(frame.now)  # there is room again, before the journal was to be tried anew
    frame.boot()
    assert (state(frame), plays(frame)) == ("reverted", first.release.sha256)


# --- a committed release that crashes film after film -----------------------------------------------------------------


def commit(frame: Frame, published: Published) -> None:
    play(frame, published, 3)
    assert (state(frame), plays(frame)) == ("committed", published.release.sha256)


def test_three_crashes_in_a_row_bring_back_the_release_committed_before(
    frame: Frame, repository: Repository, first: Published, second: Published, third: Published
) -> None:
    commit(frame, second)
    play(frame, second, MAX_CRASHES - 1, crash=CRASH)
    play(frame, second)  # one that ends well: they are not in a row
    play(frame, second, MAX_CRASHES - 1, crash=CRASH)
    frame.boot()  # the count survives
    frame.connect()
    assert (state(frame), plays(frame)) == ("committed", second.release.sha256)
    play(frame, second, crash=CRASH)
    told = last(frame)
    assert (told.state, told.release, told.target) == ("reverted", first.release.sha256, second.release.sha256)
    assert told.failure is not None
    assert told.failure.detail == f"3 films in a row crashed, so the release committed before plays again: {CRASH}"
    assert frame.health[-1].kind == "trial_failed"
    assert plays(frame) == first.release.sha256
    play(frame, first, 5, crash=CRASH)
    assert plays(frame) == first.release.sha256, "there is nothing behind it"
    frame.wait(72 * HOUR_S)
    assert plays(frame) == first.release.sha256, "it waits for another DesiredState"
    offer(frame, repository, 3, third)
    play(frame, third, 3)
    assert (state(frame), plays(frame)) == ("committed", third.release.sha256)


def test_an_installation_comes_first_for_it_may_be_the_remedy(
    frame: Frame, repository: Repository, first: Published, second: Published, third: Published
) -> None:
    commit(frame, second)
    frame.disconnect()
    frame.connect()
    frame.before_message = lambda topic: False
    offer(frame, repository, 3, third)
    play(frame, second, MAX_CRASHES + 1, crash=CRASH)
    assert (state(frame), plays(frame)) == ("downloading", second.release.sha256)
    frame.wait(60.0)
    assert (state(frame), plays(frame)) == ("failed", first.release.sha256)
    frame.before_message = lambda topic: True
    frame.wait(2 * HOUR_S)
    play(frame, third, 3)
    assert (state(frame), plays(frame)) == ("committed", third.release.sha256)


def test_a_fallback_after_a_restart_is_told_in_a_whole_sentence(
    frame: Frame, repository: Repository, first: Published, second: Published, third: Published
) -> None:
    commit(frame, second)
    frame.before_message = lambda topic: False
    frame.disconnect()
    frame.connect()
    offer(frame, repository, 3, third)
    play(frame, second, MAX_CRASHES, crash=CRASH)
    frame.boot()
    frame.connect()
    frame.wait(60.0)
    assert (state(frame), plays(frame)) == ("failed", first.release.sha256)
    told = [event.detail for event in frame.health if "in a row" in event.detail]
    assert told == ["3 films in a row crashed, so the release committed before plays again."]


def test_a_fallback_whose_files_are_gone_is_none(frame: Frame, first: Published, second: Published) -> None:
    commit(frame, second)
    before = frame.core.journal.before
    assert before is not None
    frame.store.collect(frame.core.journal.files() - {before.release})
    play(frame, second, MAX_CRASHES, crash=CRASH)
    assert plays(frame) == second.release.sha256


def test_a_crash_that_cannot_be_saved_is_only_not_counted(
    frame: Frame, second: Published, first: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(frame, second)
    with monkeypatch.context() as disk:
        disk.setattr(frame.journal_port, "save", full)
        play(frame, second, MAX_CRASHES, crash=CRASH)
        assert plays(frame) == second.release.sha256
    play(frame, second, MAX_CRASHES, crash=CRASH)
    assert plays(frame) == first.release.sha256
