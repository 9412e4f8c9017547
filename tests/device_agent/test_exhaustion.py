"""Disk full and out of memory in mid-install: the old release goes on playing, the reason is told, and it is tried
again later."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.installer.slots import Journal
from device_agent.storage.store import FileStore
from protocol.errors import Reason
from tests.device_agent.frame import FRAME, Frame
from tests.device_agent.repository import Published, Repository, desired

BUNDLE = bytes(range(256)) * 900
HOUR_S = 3_600.0


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def first(repository: Repository) -> Published:
    return repository.release("portrait", "1.0", [repository.base(b"model" * 100)])


@pytest.fixture
def second(repository: Repository) -> Published:
    return repository.release("portrait", "2.0", [repository.base(BUNDLE, "2.0")])


@pytest.fixture
def frame(repository: Repository, first: Published, tmp_path: Path) -> Frame:
    frame = Frame(repository.retained, repository.anchors(), store=FileStore(tmp_path, headroom=0))
    frame.connect()
    frame.give(repository.envelope(desired(FRAME, 1, first)))
    return frame


def plays(frame: Frame, published: Published) -> bool:
    playing = frame.core.playing
    assert playing is not None
    assert all(frame.store.has(name) for name in playing.files())
    return playing.release == published.release.sha256


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_memory(*_: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("broken", ["append", "resume", "finish", "save"])
def test_a_disk_that_fills_up_while_fetching(
    frame: Frame,
    repository: Repository,
    first: Published,
    second: Published,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where: dict[str, tuple[object, str]] = {
        name: (sink, name) for sink in (type(frame.store.sink("0" * 64, 1)),) for name in ("append", "resume", "finish")
    }
    where["save"] = (frame.documents, "save")
    offer = repository.envelope(desired(FRAME, 2, second))
    frame.documents.save("desired", offer)
    with monkeypatch.context() as disk:
        disk.setattr(*where[broken], no_room)
        frame.boot()
        frame.connect()
        frame.wait(60)
    assert plays(frame, first)
    told = frame.reports[-1]
    assert (told.state, told.target) == ("failed", second.release.sha256)
    assert told.failure is not None
    assert (told.failure.reason, told.failure.detail) == (
        Reason.DISK_FULL,
        "The frame's disk is full: free space on it.",
    )
    assert frame.health[-1].kind == "disk_full"
    frame.wait(HOUR_S)
    assert plays(frame, second)


@pytest.mark.parametrize("saves", range(8))
def test_a_journal_that_cannot_be_saved_from_some_step_on(
    frame: Frame,
    repository: Repository,
    first: Published,
    second: Published,
    saves: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save = frame.journal_port.save
    left = saves

    def until_full(journal: Journal) -> None:
        nonlocal left
        if left == 0:
            no_room()
        left -= 1
        save(journal)

    with monkeypatch.context() as disk:
        disk.setattr(frame.journal_port, "save", until_full)
        frame.give(repository.envelope(desired(FRAME, 2, second)))
        frame.wait(60)
        committed = frame.core.journal.committed
        assert committed is not None
        assert committed.release == (second if saves >= 6 else first).release.sha256
        frame.boot()
        assert frame.core.journal.committed == committed
        frame.connect()
    frame.wait(8 * HOUR_S)
    assert (frame.core.journal.state, plays(frame, second)) == ("committed", True)


@pytest.mark.parametrize("state", ["verifying", "staged"])
def test_a_disk_that_is_full_once_everything_is_fetched_does_not_make_the_release_a_damaged_one(
    frame: Frame,
    repository: Repository,
    first: Published,
    second: Published,
    state: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save = frame.journal_port.save
    crowded = True

    def once_full(journal: Journal) -> None:
        nonlocal crowded
        if crowded and journal.state == state:
            crowded = False
            no_room()
        save(journal)

    monkeypatch.setattr(frame.journal_port, "save", once_full)
    frame.give(repository.envelope(desired(FRAME, 2, second)))
    assert plays(frame, first)
    told = frame.reports[-1]
    assert told.failure is not None
    assert (told.state, told.failure.reason) == ("failed", Reason.DISK_FULL)
    frame.wait(HOUR_S)
    assert plays(frame, second)


def test_what_the_disk_is_full_of_is_thrown_away_when_it_is_nobodys(
    frame: Frame, repository: Repository, second: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is half fetched makes room for the journal."""
    save, partial = frame.journal_port.save, Path(frame.store._partial)  # type: ignore[attr-defined]
    (partial / ("e" * 64)).write_bytes(b"given up long ago")

    def while_crowded(journal: Journal) -> None:
        if any(partial.iterdir()):
            no_room()
        save(journal)

    monkeypatch.setattr(frame.journal_port, "save", while_crowded)
    frame.give(repository.envelope(desired(FRAME, 2, second)))
    assert plays(frame, second)


def test_leftovers_make_room_for_a_release(
    frame: Frame, repository: Repository, second: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = frame.store.path("e" * 64)  # type: ignore[attr-defined]
    leftover.write_bytes(b"of a release that was refused")
    room = frame.store.room
    monkeypatch.setattr(frame.store, "room", lambda needed: room(10**18 if leftover.exists() else needed))
    frame.give(repository.envelope(desired(FRAME, 2, second)))
    assert plays(frame, second)
    assert not leftover.exists()


@pytest.mark.parametrize("where", ["check", "measure"])
def test_a_frame_without_memory_tries_again_later(
    frame: Frame,
    repository: Repository,
    first: Published,
    second: Published,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    holder: dict[str, object] = {"check": frame.store, "measure": frame.trial}
    with monkeypatch.context() as memory:
        memory.setattr(holder[where], where, no_memory)
        frame.give(repository.envelope(desired(FRAME, 2, second)))
    told = frame.reports[-1]
    assert (told.state, told.target, plays(frame, first)) == ("failed", second.release.sha256, True)
    assert told.failure is not None
    assert told.failure.reason is Reason.INTERNAL
    assert "out of memory" in told.failure.detail
    frame.wait(HOUR_S)
    assert plays(frame, second)


def test_a_trial_that_the_frame_cannot_run_is_given_up_after_three_times(
    frame: Frame, repository: Repository, first: Published, second: Published
) -> None:
    frame.trial.error = MemoryError()
    frame.give(repository.envelope(desired(FRAME, 2, second)))
    frame.wait(48 * HOUR_S)
    told = frame.reports[-1]
    assert told.state == "failed"
    assert told.failure is not None
    assert told.failure.reason is Reason.TRIAL_FAILED
    assert len(frame.trial.tried) == 4
    assert plays(frame, first)


@pytest.mark.parametrize("fails", ["documents", "journal"])
def test_a_desired_state_that_cannot_be_kept_is_taken_when_it_comes_again(
    frame: Frame,
    repository: Repository,
    first: Published,
    second: Published,
    fails: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    envelope = repository.envelope(desired(FRAME, 2, second))
    ports: dict[str, tuple[object, Callable[..., None]]] = {
        "documents": (frame.documents, no_room),
        "journal": (frame.journal_port, no_room),
    }
    with monkeypatch.context() as disk:
        disk.setattr(ports[fails][0], "save", ports[fails][1])
        frame.give(envelope)
        frame.give(repository.envelope(desired("frame-2", 9, second)))
        assert plays(frame, first)
        assert {event.kind for event in frame.health} >= {"disk_full"}
    frame.give(envelope)
    frame.wait(HOUR_S)
    assert plays(frame, second)
