"""A sample of what ``make bench-powercut`` does at every change: whatever a cut, a kill or a failing disk leaves, the
frame plays the old release or the new one, its journal says which, and it goes on. And the harness finds what it is
there to find: each planted mistake is caught."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from device_agent.installer.slots import Journal
from device_agent.storage import files, journal, store
from device_agent.storage.disk import disk, using
from device_agent.storage.journal import FileJournal
from device_agent.storage.outbox import FileOutbox
from device_agent.storage.store import FileStore
from tests.device_agent.powercut.cuts import Tally, cut_at, fail_at, kill_at, tell
from tests.device_agent.powercut.story import STORIES, backend, releases
from tests.device_agent.powercut.world import Frame, Truth, born


def sound(tally: Tally) -> None:
    assert not tally.wrong, "\n".join(tally.told)


def test_a_cut_at_every_change_of_a_small_story() -> None:
    tally = Tally()
    moments = tell(STORIES["birth"])
    assert {"create", "write", "sync", "rename", "sync_folder", "mkdir", "end"} <= {
        moment.what.split(" ")[0] for moment in moments
    }
    for number, moment in enumerate(moments):
        cut_at(moment, number, 0, tally, twice=False)
    sound(tally)
    assert tally.cut_points > len(moments)


@pytest.mark.parametrize("story", ["short", "life", "crowded", "agents"])
def test_cuts_of_longer_stories_some_of_them_twice(story: str) -> None:
    tally = Tally()
    for number, moment in enumerate(tell(STORIES[story])[3::29]):
        cut_at(moment, number, 1, tally, twice=number % 3 == 0)
    sound(tally)
    assert tally.second_cuts > 2


def test_cuts_around_a_fallback_from_a_release_that_crashes() -> None:
    tally = Tally()
    moments = tell(STORIES["crashes"])
    end = moments[-1].truth.saved
    assert end is not None
    assert (end.state, end.fallback) == ("reverted", False), "the story is another one"
    for number, moment in enumerate(moments[-60::4]):
        cut_at(moment, number, 0, tally, twice=False)
    sound(tally)


def test_agents_come_and_go_in_the_story_about_them() -> None:
    kept, brought = born(releases().repository), releases().agent.targets[1].sha256
    with using(kept):
        frame = Frame(kept, backend(), Truth())
        STORIES["agents"](frame)
    assert frame.ran == [None, brought, None, brought]
    slot = frame.core.journal.slot(frame.core.journal.other)
    assert slot is not None
    assert (slot.release, slot.agent) == (releases().fix.release.sha256, frame.core.journal.agent), "the fix kept it"


def test_a_kill_and_then_a_cut() -> None:
    tally = Tally()
    for number, moment in enumerate(tell(STORIES["short"])[::12]):
        kill_at(moment, number, tally)
    sound(tally)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_for_a_moment_and_then_a_cut(code: int) -> None:
    tally = Tally()
    for number in range(1, len(tell(STORIES["short"])), 11):
        fail_at(STORIES["short"], number, code, 1 if code == errno.EIO else 5, number, tally)
    sound(tally)


# --- planted mistakes -------------------------------------------------------------------------------------------------


def without_sync(path: Path, content: bytes, mode: int = 0o600) -> None:
    """A replacement whose bytes nobody synced."""
    temporary = path.with_name(f".{path.name}.new")
    with files.opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode) as handle:
        files.write_all(handle, content, 0)
    disk().rename(temporary, path)
    files.sync_folder(path.parent)


def without_folder(path: Path, content: bytes, mode: int = 0o600) -> None:
    """A replacement whose name nobody synced."""
    temporary = path.with_name(f".{path.name}.new")
    with files.opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode) as handle:
        files.write_all(handle, content, 0)
        disk().sync(handle)
    disk().rename(temporary, path)


def in_place(path: Path, content: bytes, mode: int = 0o600) -> None:
    """No replacement at all."""
    with files.opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode) as handle:
        files.write_all(handle, content, 0)
        disk().sync(handle)
    files.sync_folder(path.parent)


def one_copy(patch: pytest.MonkeyPatch, replacement: Callable[..., None]) -> None:
    patch.setattr(journal, "replace_file", replacement)
    patch.setattr(FileJournal, "_save_copy", lambda *_: None)


def unsynced_artifact(patch: pytest.MonkeyPatch) -> None:
    """The store's file is renamed, its bytes are not synced, and nobody looks again."""

    def finish(sink: Any) -> None:
        disk().rename(sink._partial, sink._complete)
        files.sync_folder(sink._complete.parent)

    patch.setattr(store.FileSink, "finish", finish)
    patch.setattr(FileStore, "check", lambda *_: None)


def unsynced_store(patch: pytest.MonkeyPatch) -> None:
    """The journal names a file whose name in the store is not durable yet."""
    patch.setattr(store, "sync_folder", lambda _: None)


def journal_first(patch: pytest.MonkeyPatch) -> None:
    """The slot is written before its files are."""

    def check(self: FileStore, sha256: str, length: int) -> None:
        del length
        path = self.path(sha256)
        content = files.read_file(path)
        files.remove(path)
        patched.append((path, content))

    patched: list[tuple[Path, bytes]] = []
    save = FileJournal.save

    def then_files(self: FileJournal, saved: Journal) -> None:
        save(self, saved)
        while patched:
            files.replace_file(*patched.pop())

    patch.setattr(FileStore, "check", check)
    patch.setattr(FileJournal, "save", then_files)


def collected_first(patch: pytest.MonkeyPatch) -> None:
    """What the new slot replaces goes before the journal says so."""
    save = FileJournal.save

    def tidy_then_save(self: FileJournal, saved: Journal) -> None:
        kept = saved.files()
        with suppress(FileNotFoundError):
            for name in disk().names(Path("/frame/store")):
                if name not in kept:
                    disk().unlink(Path("/frame/store") / name)
        save(self, saved)

    patch.setattr(FileJournal, "save", tidy_then_save)


def unsynced_events(patch: pytest.MonkeyPatch) -> None:
    """Events are handed out before they are durable."""
    patch.setattr(FileOutbox, "flush", lambda self: None)


def unflushed_after_a_kill(patch: pytest.MonkeyPatch) -> None:
    """Events that a killed agent left in the system's cache are taken for durable."""
    load = FileOutbox._load_segments

    def trusting(self: FileOutbox) -> int:
        damaged = load(self)
        self._dirty = False
        return damaged

    patch.setattr(FileOutbox, "_load_segments", trusting)


MISTAKES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "a journal is renamed before its bytes are synced": (lambda patch: one_copy(patch, without_sync), "cut"),
    "a journal is renamed and its folder not synced": (lambda patch: one_copy(patch, without_folder), "cut"),
    "a journal is written in place": (lambda patch: one_copy(patch, in_place), "cut"),
    "an artifact is named before its bytes are synced": (unsynced_artifact, "cut"),
    "an artifact is named before its folder is synced": (unsynced_store, "cut"),
    "the journal is written before the artifact": (journal_first, "cut"),
    "old files go before the journal is written": (collected_first, "cut"),
    "events are sent before they are synced": (unsynced_events, "cut"),
    "a killed agent's events are taken for durable": (unflushed_after_a_kill, "kill"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_harness_catches_a_planted_mistake(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, way = MISTAKES[mistake]
    plant(monkeypatch)
    tally = Tally()
    moments = list(enumerate(tell(STORIES["life"])))
    late = len(moments) * 3 // 5  # where the frame has most to lose: noticed sooner than from the beginning on
    for number, moment in moments[late:] + moments[:late]:
        if way == "cut":
            cut_at(moment, number, 0, tally, twice=False)
        else:
            kill_at(moment, number, tally)
        if tally.wrong:
            break
    assert tally.wrong, "nothing was noticed"
