"""A release that brings the whole agent down, again and again: the last committed one plays, without anybody's help."""

import os
import signal
from typing import Any

import pytest

from device_agent.adapters import rebind
from device_agent.installer.machine import MAX_TRIAL_ATTEMPTS
from device_agent.installer.slots import Installed, Journal, Slot
from device_agent.storage.journal import FileJournal
from protocol import topics
from protocol.errors import Reason
from protocol.messages import ReportedState
from tests.device_agent.display import children
from tests.device_agent.live import FRAME, Backend, LiveAgent, until
from tests.device_agent.repository import Published, Repository, desired
from tests.reference_model.artifacts import ADAPTER, with_manifest

pytestmark = pytest.mark.slow

SETTINGS = ("--trial-playbacks", "1", "--sink", "none")


def at_leisure(manifest: dict[str, Any]) -> None:
    """How fast this machine is, is not the question here."""
    manifest["golden"]["limits"].pop("step_p99_ms", None)


class Looping:
    """A frame that committed 1.0, is offered 1.1, and is killed whenever a test says so."""

    def __init__(self, agent: LiveAgent, backend: Backend, repository: Repository) -> None:
        self.agent, self.backend, self.repository = agent, backend, repository
        bundle = with_manifest(at_leisure)
        base = repository.base(bundle)
        self.first = repository.release("portrait", "1.0", [base])
        adapter = repository.adapter(rebind(ADAPTER.read_bytes(), base.sha256), base)
        self.second = repository.release("portrait", "1.1", [base, adapter])
        backend.put(repository.retained)
        store = agent.folder / "store"
        store.mkdir()
        (store / base.sha256).write_bytes(bundle)
        (store / self.first.release.sha256).write_bytes(self._manifest(self.first))
        installed = Installed(kind="base_model", path=base.path, length=base.length, sha256=base.sha256)
        slot = Slot(release=self.first.release.sha256, artifacts=(installed,))
        self.port = FileJournal(agent.folder / "journal.json")
        self.port.save(Journal(journal_id="0" * 32, state="committed", active="A", slot_a=slot, desired_version=1))
        backend.assign(FRAME, 2, repository.envelope(desired(FRAME, 2, self.second)))

    def _manifest(self, published: Published) -> bytes:
        return self.repository.retained[topics.chunk_topic(published.release.sha256)]

    @property
    def journal(self) -> Journal:
        journal = self.port.read()
        assert journal is not None
        return journal

    @property
    def report(self) -> ReportedState | None:
        return self.backend.reports[-1] if self.backend.reports else None

    def start(self) -> None:
        self.agent.start(*SETTINGS)

    def said(self, state: str) -> bool:
        report = self.report
        return report is not None and (report.state, report.release) == (state, self.first.release.sha256)

    def plays_first(self) -> None:
        asked = self.agent.lay_out_media()
        assert self.agent.ask("/play", asked)[0] == 200
        assert self.agent.ask("/status")[1]["release_name"] == "portrait 1.0"


@pytest.fixture
def frame(agent: LiveAgent, backend: Backend, repository: Repository) -> Looping:
    return Looping(agent, backend, repository)


def test_an_agent_that_is_killed_in_every_trial_gives_the_release_up(frame: Looping) -> None:
    for attempt in range(1, MAX_TRIAL_ATTEMPTS + 1):
        frame.start()
        until(lambda attempt=attempt: frame.journal.trial_attempts == attempt)  # type: ignore[misc]
        assert (frame.journal.state, frame.journal.probation) == ("trial", None)
        frame.agent.kill9()
    frame.start()
    until(lambda: frame.said("failed"))
    report = frame.report
    assert report is not None
    assert report.failure is not None
    assert report.failure.reason is Reason.TRIAL_FAILED
    assert "did not come to its end 3 times" in report.failure.detail
    assert report.target == frame.second.release.sha256
    frame.plays_first()


def test_an_agent_that_is_killed_on_probation_goes_back(frame: Looping) -> None:
    frame.start()
    for restarts in range(MAX_TRIAL_ATTEMPTS):
        until(lambda restarts=restarts: (p := frame.journal.probation) is not None and p.restarts == restarts)  # type: ignore[misc]
        playing = frame.journal.playing
        assert playing is not None
        assert playing.release == frame.second.release.sha256
        # As a watchdog ends it: with everything that it had started.
        assert frame.agent.process is not None
        below = children(frame.agent.process.pid)
        os.kill(frame.agent.process.pid, signal.SIGABRT)
        frame.agent.process.wait(10)
        until(lambda below=below: not any(alive(pid) for pid in below))  # type: ignore[misc]
        frame.start()
    until(lambda: frame.said("reverted"))
    report = frame.report
    assert report is not None
    assert report.failure is not None
    assert "cut off 3 times" in report.failure.detail
    frame.plays_first()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
