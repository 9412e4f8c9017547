"""Which agent runs: the playing release's, unless it does not stand; in the end always the image's."""

import errno
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent import boot as module
from device_agent.boot import AGAIN_S, MAX_STARTS, Boot, agents_of, choose, environment_for, running_agent
from device_agent.folder import AgentFolder
from device_agent.installer.slots import Installed, Journal, Probation, Slot
from device_agent.storage.journal import FileJournal
from protocol.chunks import sha256_hex

OLD, NEW = b"the agent before", b"the agent after"
ARGUMENTS = ["run", "--dir", "/frame"]


def installed(data: bytes, kind: str, version: str = "") -> Installed:
    return msgspec.convert(
        {"kind": kind, "path": f"{kind}/x", "length": len(data), "sha256": sha256_hex(data), "version": version},
        Installed,
    )


def slot(release: str, agent: bytes | None) -> Slot:
    artifacts = (installed(b"model", "base_model"), *([installed(agent, "agent", "2.0")] if agent else []))
    return Slot(release=release * 64, artifacts=artifacts)


def journal(active: bytes | None, other: bytes | None = None, *, probation: bool = False) -> Journal:
    return Journal(
        journal_id="0" * 32,
        state="trial" if probation else "committed",
        active="A",
        slot_a=slot("a", active),
        slot_b=slot("b", other),
        target="b" * 64 if probation else None,
        probation=Probation() if probation else None,
    )


class Started(Exception):
    """The process became another one."""


class Frame:
    """A folder with a journal and files; ``begin`` is a start of the image's agent."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = AgentFolder(folder)
        self.command: list[str] = []
        self.environment: dict[str, str] = {}
        (folder / "store").mkdir()
        for data in (OLD, NEW):
            self.file(data).write_bytes(data)
        monkeypatch.setattr(os, "execve", self._execve)

    def file(self, data: bytes) -> Path:
        return self.folder.path / "store" / sha256_hex(data)

    def save(self, journal: Journal) -> None:
        FileJournal(self.folder.journal).save(journal)

    def boot(self, running: bytes | None = None) -> Boot:
        return Boot(self.folder, {"PYTHONPATH": "/image"}, ARGUMENTS, sha256_hex(running) if running else None)

    def begin(self) -> bytes | None:
        """The file of the agent that then runs; None for the image's."""
        self.environment = {}
        try:
            self.boot().begin()
        except Started:
            return Path(self.environment["PYTHONPATH"].split(":")[0]).read_bytes()
        return None

    def _execve(self, path: str, command: list[str], environment: dict[str, str]) -> NoReturn:
        assert path == sys.executable
        self.command, self.environment = command, environment
        raise Started


@pytest.fixture
def frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Frame:
    return Frame(tmp_path, monkeypatch)


def test_a_blank_frame_and_releases_without_an_agent_run_the_images(frame: Frame) -> None:
    assert frame.begin() is None
    frame.save(journal(None))
    assert frame.begin() is None
    assert not (frame.folder.path / "boot.json").exists(), "there was nothing to count"


def test_the_playing_releases_agent_takes_over_with_the_same_command_line(frame: Frame) -> None:
    frame.save(journal(OLD, NEW, probation=True))
    assert frame.begin() == NEW
    assert frame.command == [sys.executable, "-P", "-m", "device_agent", *ARGUMENTS]
    assert frame.environment["PYTHONPATH"] == f"{frame.file(NEW)}:/image"
    frame.save(journal(OLD, NEW))
    assert frame.begin() == OLD, "what is not on probation any more does not run"


def test_one_that_does_not_stand_gives_way_to_the_committed_releases_then_to_the_images(frame: Frame) -> None:
    frame.save(journal(OLD, NEW, probation=True))
    started = [frame.begin() for _ in range(2 * MAX_STARTS + 1)]
    assert started == [*[NEW] * MAX_STARTS, *[OLD] * MAX_STARTS, None]


def test_one_that_stood_begins_to_count_anew(frame: Frame) -> None:
    frame.save(journal(NEW))
    for _ in range(MAX_STARTS + 2):
        assert frame.begin() == NEW
        frame.boot(running=NEW).stood()
    assert frame.boot().starts == {}


def test_counts_of_agents_that_no_slot_names_any_more_are_forgotten(frame: Frame) -> None:
    frame.save(journal(OLD, NEW, probation=True))
    frame.begin()
    frame.save(journal(OLD))
    frame.begin()
    assert set(frame.boot().starts) == {sha256_hex(OLD)}


@pytest.mark.parametrize("damage", ["missing", "short", "other"])
def test_a_damaged_file_is_never_started(frame: Frame, damage: str) -> None:
    frame.save(journal(OLD, NEW, probation=True))
    if damage == "missing":
        frame.file(NEW).unlink()
    else:
        frame.file(NEW).write_bytes(NEW[:-1] if damage == "short" else NEW[::-1])
    assert frame.begin() == OLD
    wanted = journal(OLD, NEW, probation=True).slot_b
    assert wanted is not None
    why = frame.boot(running=OLD).not_started(wanted.agent)
    assert why == "Agent 2.0, which the release brought, did not stay up 3 times or is damaged."
    assert not frame.boot(running=OLD).wants_another(wanted.agent)


def test_an_unreadable_journal_leaves_the_images_agent(frame: Frame) -> None:
    frame.folder.journal.write_bytes(b"{")
    assert frame.begin() is None


def test_a_disk_that_cannot_count_starts_nothing_and_is_tried_again_later(
    frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    frame.save(journal(NEW))
    boot = frame.boot()
    with monkeypatch.context() as patch:
        patch.setattr(module, "replace_file", full)
        boot.begin()
    wanted = journal(NEW).slot_a
    assert wanted is not None
    assert not boot.wants_another(wanted.agent), "at once it would only go round"
    assert boot.not_started(wanted.agent) is None, "it is nobody's fault"
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + AGAIN_S)
    assert boot.wants_another(wanted.agent)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"starts": {"x": 1}}', b'{"starts": {"' + b"a" * 64 + b'": -1}}'])
def test_a_record_that_cannot_be_read_gives_every_agent_its_starts_again(frame: Frame, content: bytes) -> None:
    frame.save(journal(NEW))
    (frame.folder.path / "boot.json").write_bytes(content)
    assert frame.begin() == NEW


def test_an_agent_that_runs_never_boots_and_gives_way_to_the_images(frame: Frame) -> None:
    frame.save(journal(OLD, NEW, probation=True))
    boot = frame.boot(running=OLD)
    boot.begin()
    assert frame.environment == {}
    assert boot.wants_another(None)
    with pytest.raises(Started):
        boot.hand_over()
    assert frame.environment == {"PYTHONPATH": "/image"}


def test_this_very_process_runs_the_images_agent() -> None:
    assert running_agent() is None


@given(st.none() | st.sampled_from(["", "/a", "/a:/b"]))
def test_the_images_path_survives_every_change(image: str | None) -> None:
    own = {"HOME": "/root"} | ({"PYTHONPATH": image} if image is not None else {})
    first = environment_for(Path("/store/1"), own)
    second = environment_for(Path("/store/2"), first)
    assert second["PYTHONPATH"] == ":".join(filter(None, ("/store/2", image)))
    back = environment_for(None, second)
    assert back == {name: value for name, value in own.items() if value}


@given(
    st.sampled_from([None, OLD]),
    st.sampled_from([None, OLD, NEW]),
    st.booleans(),
    st.dictionaries(st.sampled_from([sha256_hex(OLD), sha256_hex(NEW)]), st.integers(0, MAX_STARTS + 1)),
)
def test_what_is_chosen_is_wanted_by_the_journal_and_has_starts_left(
    active: bytes | None, other: bytes | None, probation: bool, starts: dict[str, int]
) -> None:
    told = journal(active, other, probation=probation)
    chosen = choose(told, starts)
    assert chosen in agents_of(told)
    assert chosen is None or starts.get(chosen.sha256, 0) < MAX_STARTS
    before = agents_of(told)[: agents_of(told).index(chosen)]
    assert all(agent is not None and starts.get(agent.sha256, 0) >= MAX_STARTS for agent in before)
