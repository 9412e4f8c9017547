"""Which agent runs: the playing release's, unless it does not stand; in the end always the image's."""

import errno
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from device_agent import boot as module
from device_agent.boot import AGAIN_S, MAX_STARTS, OVERTIME_S, STEADY_S, Boot, Starts, agents_of, choose, running_agent
from device_agent.environment import environment_for
from device_agent.folder import AgentFolder
from device_agent.installer.slots import Installed, Journal, Probation, Slot
from device_agent.storage import store
from device_agent.storage.journal import FileJournal
from protocol.chunks import sha256_hex
from protocol.errors import Refused

OLD, NEW = b"the agent before", b"the agent after"
ARGUMENTS = ["run", "--dir", "/frame"]
PROBATION_S = 86_400.0


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
        self.alarms: list[int] = []
        self.environment: dict[str, str] = {}
        (folder / "store").mkdir()
        for data in (OLD, NEW):
            self.file(data).write_bytes(data)
        monkeypatch.setattr(os, "execve", self._execve)
        monkeypatch.setattr(signal, "alarm", self.alarms.append)

    def file(self, data: bytes) -> Path:
        return self.folder.path / "store" / sha256_hex(data)

    def save(self, journal: Journal) -> None:
        FileJournal(self.folder.journal).save(journal)

    def boot(self, running: bytes | None = None) -> Boot:
        return Boot(self.folder, {"PYTHONPATH": "/image"}, ARGUMENTS, sha256_hex(running) if running else None)

    def count(self, agent: bytes) -> int:
        """As the disk has it."""
        return self.boot()._starts.starts.get(sha256_hex(agent), 0)

    def begin(self) -> bytes | None:
        """The file of the agent that then runs; None for the image's."""
        self.environment = {}
        try:
            self.boot().begin(PROBATION_S)
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


@pytest.mark.parametrize("probation", [False, True])
def test_a_start_is_taken_back_after_a_minute_and_on_probation_only_once_the_backend_answered(
    frame: Frame, probation: bool
) -> None:
    told = journal(OLD, NEW, probation=True) if probation else journal(NEW)
    frame.save(told)
    assert [frame.begin() for _ in range(2)] == [NEW, NEW]
    boot = frame.boot(running=NEW)
    boot.goes_on(told, STEADY_S - 1, answered=True)
    assert frame.count(NEW) == 2
    boot.goes_on(told, STEADY_S, answered=False)
    assert frame.count(NEW) == (2 if probation else 0)
    boot.goes_on(told, STEADY_S, answered=True)
    assert frame.count(NEW) == 0


def test_a_stop_that_somebody_asked_for_takes_the_start_back(frame: Frame) -> None:
    frame.save(told := journal(NEW))
    for _ in range(MAX_STARTS + 2):
        assert frame.begin() == NEW
        frame.boot(running=NEW).take_back(told)
    assert frame.count(NEW) == 0


def test_whoever_sends_the_release_again_has_it_tried_again(frame: Frame) -> None:
    told = journal(OLD, NEW, probation=True)
    frame.save(told)
    for _ in range(MAX_STARTS):
        frame.begin()
    boot = frame.boot(running=OLD)
    again = replace(told, desired_version=told.desired_version + 1)
    assert (boot.wants_another(told), boot.wants_another(again)) == (False, True)
    assert boot.not_started(told) == "Agent 2.0, which the release brought, did not stay up 3 times or is damaged."
    assert boot.not_started(again) is None
    frame.save(again)
    assert frame.begin() == NEW
    assert frame.count(NEW) == 1


def test_on_probation_a_clock_ends_what_gets_nowhere(frame: Frame) -> None:
    frame.save(told := journal(OLD, NEW, probation=True))
    frame.begin()
    assert frame.alarms == [0, int(PROBATION_S) + OVERTIME_S], "the alarm survives the change of the program"
    boot = frame.boot(running=NEW)
    boot.goes_on(told, STEADY_S, answered=True)
    assert len(frame.alarms) == 2
    boot.goes_on(journal(OLD, NEW), STEADY_S, answered=True)
    assert frame.alarms[-1] == 0


def test_counts_of_agents_that_no_slot_names_any_more_are_forgotten(frame: Frame) -> None:
    frame.save(journal(OLD, NEW, probation=True))
    frame.begin()
    frame.save(journal(OLD))
    frame.begin()
    assert (frame.count(OLD), frame.count(NEW)) == (1, 0)


@pytest.mark.parametrize("damage", ["missing", "short", "other"])
def test_a_damaged_file_is_never_started(frame: Frame, damage: str) -> None:
    frame.save(told := journal(OLD, NEW, probation=True))
    if damage == "missing":
        frame.file(NEW).unlink()
    else:
        frame.file(NEW).write_bytes(NEW[:-1] if damage == "short" else NEW[::-1])
    assert frame.begin() == OLD
    boot = frame.boot(running=OLD)
    assert boot.not_started(told) is not None
    assert not boot.wants_another(told)


def test_an_unreadable_journal_leaves_the_images_agent(frame: Frame) -> None:
    frame.folder.journal.write_bytes(b"{")
    assert frame.begin() is None


@pytest.mark.parametrize("fault", ["cannot count", "cannot read"])
def test_a_disk_that_fails_starts_nothing_blames_nobody_and_is_tried_again_later(
    frame: Frame, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    frame.save(told := journal(NEW))
    boot = frame.boot()
    with monkeypatch.context() as patch:
        if fault == "cannot count":
            patch.setattr(module, "replace_file", fail)
        else:
            patch.setattr(store, "_hash_of", fail)
        boot.begin(PROBATION_S)
    assert not boot.wants_another(told), "at once it would only go round"
    assert boot.not_started(told) is None
    assert frame.count(NEW) == 0
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + AGAIN_S)
    assert boot.wants_another(told)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"starts": {"x": 1}}', b'{"starts": {"' + b"a" * 64 + b'": -1}}'])
def test_a_record_that_cannot_be_read_gives_every_agent_its_starts_again(frame: Frame, content: bytes) -> None:
    frame.save(journal(NEW))
    (frame.folder.path / "boot.json").write_bytes(content)
    assert frame.begin() == NEW


def test_an_agent_that_runs_never_boots_and_gives_way_to_the_images(frame: Frame) -> None:
    frame.save(journal(OLD, NEW, probation=True))
    boot = frame.boot(running=OLD)
    boot.begin(PROBATION_S)
    assert frame.environment == {}
    assert boot.wants_another(journal(None))
    with pytest.raises(Started):
        boot.hand_over()
    assert frame.environment == {"PYTHONPATH": "/image"}


def test_a_trial_uses_the_code_that_its_release_would_run_on(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/image")
    files = store.FileStore(frame.folder.path)
    new, boot = journal(NEW).agent, frame.boot(running=OLD)
    assert new is not None
    assert boot.environment_of(journal(OLD).agent, files) is None
    found = boot.environment_of(new, files)
    assert found is not None
    assert found["PYTHONPATH"] == f"{frame.file(NEW)}:/image"
    images = boot.environment_of(None, files)
    assert images is not None
    assert images["PYTHONPATH"] == "/image"
    frame.file(NEW).write_bytes(b"rotten")
    with pytest.raises(Refused):
        boot.environment_of(new, files)


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
    st.integers(0, 1),
)
def test_what_is_chosen_is_wanted_by_the_journal_and_has_starts_left(
    active: bytes | None, other: bytes | None, probation: bool, counts: dict[str, int], version: int
) -> None:
    told, starts = journal(active, other, probation=probation), Starts(version=version, starts=counts)
    chosen = choose(told, starts)
    assert chosen in agents_of(told)
    assert chosen is None or starts.of(chosen, told) < MAX_STARTS
    before = agents_of(told)[: agents_of(told).index(chosen)]
    assert all(agent is not None and starts.of(agent, told) >= MAX_STARTS for agent in before)
