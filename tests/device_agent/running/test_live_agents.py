"""A release brings the agent itself: it takes over in the same process, and one that is no good gives way again."""

import signal

import pytest

from device_agent.boot import MAX_STARTS
from device_agent.installer.slots import Installed, Journal, Slot
from device_agent.storage.journal import FileJournal
from device_agent.version import AGENT_VERSION
from protocol import topics
from protocol.errors import Reason
from protocol.messages import ReportedState
from tests.device_agent.agent_files import agent_file
from tests.device_agent.live import FRAME, Backend, LiveAgent, until
from tests.device_agent.repository import Published, Repository, desired
from tests.device_agent.running.test_live_boot_loop import at_leisure
from tests.reference_model.artifacts import with_manifest

pytestmark = pytest.mark.slow

NEW = "9.9.0"


class Changing:
    """A frame that committed 1.0 on its image's agent, and a backend that offers it releases."""

    def __init__(self, agent: LiveAgent, backend: Backend, repository: Repository) -> None:
        self.agent, self.backend, self.repository = agent, backend, repository
        bundle = with_manifest(at_leisure)
        self.base = repository.base(bundle)
        self.first = repository.release("portrait", "1.0", [self.base])
        store = agent.folder / "store"
        store.mkdir()
        (store / self.base.sha256).write_bytes(bundle)
        manifest = repository.retained[topics.chunk_topic(self.first.release.sha256)]
        (store / self.first.release.sha256).write_bytes(manifest)
        base = Installed(kind="base_model", path=self.base.path, length=self.base.length, sha256=self.base.sha256)
        slot = Slot(release=self.first.release.sha256, artifacts=(base,))
        self.journal = FileJournal(agent.folder / "journal.json")
        self.journal.save(Journal(journal_id="0" * 32, state="committed", active="A", slot_a=slot, desired_version=1))
        self.version = 1

    def with_agent(self, data: bytes) -> Published:
        return self.repository.release("portrait", "1.1", [self.base, self.repository.agent(data, NEW)])

    def offer(self, published: Published) -> None:
        self.version += 1
        self.backend.put(self.repository.retained)
        self.backend.assign(FRAME, self.version, self.repository.envelope(desired(FRAME, self.version, published)))

    def start(self) -> None:
        self.agent.start("--trial-playbacks", "1", "--sink", "none")

    def says(self, state: str, published: Published, version: str) -> bool:
        report = self.report
        known = (report.state, report.release, report.agent_version) if report is not None else None
        return known == (state, published.release.sha256, version)

    @property
    def report(self) -> ReportedState | None:
        return self.backend.reports[-1] if self.backend.reports else None

    def prove(self) -> None:
        assert self.agent.ask("/play", self.agent.lay_out_media())[0] == 200


@pytest.fixture
def frame(agent: LiveAgent, backend: Backend, repository: Repository) -> Changing:
    return Changing(agent, backend, repository)


def test_it_takes_over_stays_over_a_crash_and_goes_with_its_release(frame: Changing) -> None:
    second = frame.with_agent(agent_file(NEW))
    frame.offer(second)
    frame.start()
    assert frame.agent.process is not None
    pid = frame.agent.process.pid
    until(lambda: frame.says("trial", second, NEW))
    assert frame.agent.ask("/status")[1]["agent_version"] == NEW
    assert frame.agent.process.pid == pid, "who supervises the agent sees one process"
    assert frame.agent.process.poll() is None
    frame.prove()
    until(lambda: frame.says("committed", second, NEW))

    frame.agent.kill9()
    hellos = len(frame.backend.hellos)
    frame.start()
    until(lambda: len(frame.backend.hellos) > hellos)
    assert frame.backend.hellos[-1].agent_version == NEW

    frame.offer(frame.first)
    until(lambda: frame.says("trial", frame.first, AGENT_VERSION))
    frame.prove()
    until(lambda: frame.says("committed", frame.first, AGENT_VERSION))
    assert frame.agent.stop() == 0


def test_one_that_ends_whenever_it_is_started_is_given_up(frame: Changing) -> None:
    frame.offer(frame.with_agent(agent_file(NEW, agent="raise SystemExit(0)\n")))
    frame.start()
    assert frame.agent.process is not None
    for _ in range(MAX_STARTS):
        assert frame.agent.process.wait(30) == 0, "it looks like an orderly end"
        frame.start()  # as its service manager would
    until(lambda: frame.says("reverted", frame.first, AGENT_VERSION))
    report = frame.report
    assert report is not None
    assert report.failure is not None
    assert report.failure.reason is Reason.TRIAL_FAILED
    assert f"Agent {NEW}, which the release brought, did not stay up {MAX_STARTS} times" in report.failure.detail
    frame.prove()


def test_who_asks_for_the_end_while_another_takes_over_is_heard(frame: Changing) -> None:
    frame.offer(frame.with_agent(agent_file(NEW)))
    frame.start()
    until(lambda: "Another agent takes over." in frame.agent.log.read_text())
    assert frame.agent.stop() in (0, -signal.SIGTERM), "the second: the image's agent was just starting"


def test_one_that_cannot_render_is_stopped_by_the_golden_clips_before_it_ever_runs(frame: Changing) -> None:
    frame.offer(frame.with_agent(agent_file(NEW, renderer__worker="raise RuntimeError('no such NPU')\n")))
    frame.start()
    until(lambda: frame.says("reverted", frame.first, AGENT_VERSION))
    assert "takes over" not in frame.agent.log.read_text()
    frame.prove()
