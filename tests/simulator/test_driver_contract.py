"""The same conversation over both drivers, paho in the agent and asyncio in the simulator, with a real broker."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from device_agent.core import FrameCore
from device_agent.ports import FrameIdentity, Ports
from device_agent.storage.journal import MemoryDocuments, MemoryJournal
from device_agent.storage.outbox import MemoryOutbox
from device_agent.telemetry import health
from device_agent.transport import MqttDriver, TlsFiles
from device_agent.trust.epoch import MemoryEpoch
from protocol import topics
from protocol.errors import Reason
from protocol.messages import HealthEvent
from protocol.sequences import RetryPolicy
from simulator.content import SharedContent, SharedStore
from simulator.driver import Broker, FrameDriver, SharedTls
from simulator.trust import TrustCache
from tests.device_agent.frame import NO_PROBATION, FakeTrial
from tests.device_agent.live import Backend, backend_user, frame_user, until
from tests.device_agent.repository import Published, Repository, desired
from tests.services import BrokerHandle, mqtt_broker

pytestmark = pytest.mark.slow

FRAME = "frame-1"
QUICK = RetryPolicy(tries=3, timeout_s=1.0, first_backoff_s=0.1, max_backoff_s=0.3)
PATIENT = RetryPolicy(tries=40, timeout_s=0.5, first_backoff_s=0.1, max_backoff_s=0.3)


def void(_: object) -> None:
    """For lambdas whose value is nobody's business."""


class Driven:
    """A frame in memory, run by one of the drivers in a thread of its own."""

    def __init__(self, kind: str, broker: BrokerHandle, anchors: dict[str, bytes]) -> None:
        self.kind = kind
        self.broker = broker
        self.outbox = MemoryOutbox()
        self.store = SharedStore(SharedContent())
        self.trial = FakeTrial()
        self.anchors = anchors
        self._stop: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None

    def start(self, retry: RetryPolicy = QUICK) -> None:
        ports = Ports(
            journal=MemoryJournal(),
            documents=MemoryDocuments(self.anchors),
            store=self.store,
            outbox=self.outbox,
            trial=self.trial,
            trust=TrustCache().open,
            epoch=MemoryEpoch(),
        )
        core = FrameCore(FrameIdentity(FRAME, "rk3588", "zh", "0.1.0"), ports, retry, NO_PROBATION)
        issued = self.broker.client(FRAME)
        tls = TlsFiles(self.broker.ca, issued.cert, issued.key)
        target = self._paho if self.kind == "paho" else self._asyncio
        ready = threading.Event()
        self._thread = threading.Thread(target=target, args=(core, tls, ready))
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        for _ in range(20):
            # Before Python 3.12, asyncio.wait_for (within aiomqtt) loses a cancellation that comes as it ends.
            self._stop()
            if self._thread is None:
                return
            self._thread.join(0.5)
            if not self._thread.is_alive():
                return
        raise AssertionError("the driver does not stop")

    def _paho(self, core: FrameCore, tls: TlsFiles, ready: threading.Event) -> None:
        driver = MqttDriver(core, self.broker.url, tls)
        self._stop = driver.stop
        ready.set()
        driver.run()

    def _asyncio(self, core: FrameCore, tls: TlsFiles, ready: threading.Event) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with ThreadPoolExecutor(1) as executor:
                broker = Broker(self.broker.host, self.broker.port, executor)
                task = asyncio.create_task(FrameDriver(core, broker, SharedTls(tls).of(tls)).run())
                self._stop = lambda: void(loop.call_soon_threadsafe(task.cancel))
                ready.set()
                await asyncio.wait([task])

        asyncio.run(main())


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerHandle]:
    with mqtt_broker(tmp_path, [backend_user(), frame_user(FRAME)]) as handle:
        yield handle


@pytest.fixture
def backend(broker: BrokerHandle) -> Iterator[Backend]:
    backend = Backend(broker)
    yield backend
    backend.close()


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture(params=["paho", "asyncio"])
def frame(request: pytest.FixtureRequest, broker: BrokerHandle, repository: Repository) -> Iterator[Driven]:
    driven = Driven(request.param, broker, repository.anchors())
    yield driven
    driven.stop()


def model(repository: Repository, chunks: int = 4) -> tuple[Published, list[str]]:
    """A release of several chunks; its chunk topics in order."""
    content = b"".join(bytes([number]) * 65_536 for number in range(chunks))
    ref = repository.base(content)
    topics_ = [topics.chunk_topic(digest) for digest in chunk_hashes(content)]
    return repository.release("portrait", "1.0", [ref]), topics_


def chunk_hashes(content: bytes) -> list[str]:
    from protocol.chunks import sha256_hex, split

    return [sha256_hex(chunk) for chunk in split(content)]


def states(backend: Backend) -> list[str]:
    return [report.state for report in backend.reports]


def test_hello_is_answered_and_events_are_acknowledged(frame: Driven, backend: Backend) -> None:
    frame.outbox.append(health("test", "before the first connection", at=1, release=None))
    frame.start()
    until(lambda: frame.outbox.waiting == 0)
    assert [hello.frame_id for hello in backend.hellos][:1] == [FRAME]
    assert [event.kind for event in backend.events.values() if isinstance(event, HealthEvent)] == ["test"]
    assert states(backend)[:1] == ["idle"]


def test_a_desired_state_that_comes_late_is_installed(frame: Driven, backend: Backend, repository: Repository) -> None:
    published, _ = model(repository)
    backend.put(repository.retained)
    frame.start()
    until(lambda: bool(backend.hellos))
    time.sleep(0.3)
    assert states(backend) == ["idle"]
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, published)))
    until(lambda: "committed" in states(backend))
    assert states(backend) == ["idle", "downloading", "verifying", "staged", "trial", "trial", "committed"]
    assert backend.reports[-1].release == published.release.sha256
    assert [slot.release for slot in frame.trial.tried] == [published.release.sha256]


def test_a_wrong_chunk_is_asked_for_again(frame: Driven, backend: Backend, repository: Repository) -> None:
    published, chunks = model(repository)
    right = repository.retained[chunks[1]]
    backend.put({**repository.retained, chunks[1]: b"x" * 65_536})
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, published)))
    frame.start(RetryPolicy(tries=3, wrong_bytes_tries=20, timeout_s=1.0, first_backoff_s=0.1, max_backoff_s=0.2))
    until(lambda: "downloading" in states(backend))
    time.sleep(0.5)
    assert states(backend)[-1] == "downloading"
    backend.put({chunks[1]: right})
    until(lambda: "committed" in states(backend))


def test_a_chunk_that_stays_wrong_is_refused(frame: Driven, backend: Backend, repository: Repository) -> None:
    published, chunks = model(repository)
    backend.put({**repository.retained, chunks[2]: b"x" * 65_536})
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, published)))
    frame.start()
    until(lambda: "failed" in states(backend))
    failure = backend.reports[-1].failure
    assert failure is not None
    assert failure.reason is Reason.TAMPERED_CHUNK
    until(lambda: any(isinstance(event, HealthEvent) for event in backend.events.values()))


def test_a_chunk_that_never_comes_is_refused_after_bounded_tries(
    frame: Driven, backend: Backend, repository: Repository
) -> None:
    published, chunks = model(repository)
    backend.put({topic: data for topic, data in repository.retained.items() if topic != chunks[3]})
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, published)))
    began = time.monotonic()
    frame.start()
    until(lambda: "failed" in states(backend))
    failure = backend.reports[-1].failure
    assert failure is not None
    assert failure.reason is Reason.NOT_AVAILABLE
    assert backend.reports[-1].release is None
    assert time.monotonic() - began > QUICK.tries * QUICK.timeout_s


def test_a_broker_that_is_killed_in_mid_download_costs_no_finished_work(
    frame: Driven, backend: Backend, broker: BrokerHandle, repository: Repository
) -> None:
    published, chunks = model(repository)
    backend.put({topic: data for topic, data in repository.retained.items() if topic != chunks[2]})
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, published)))
    frame.start(PATIENT)
    until(lambda: "downloading" in states(backend))
    time.sleep(0.5)
    broker.kill9()
    time.sleep(0.5)
    broker.start()
    until(lambda: backend.client.is_connected())
    until(lambda: len(backend.hellos) >= 2)
    backend.put({chunks[2]: repository.retained[chunks[2]]})
    until(lambda: "committed" in states(backend))
    assert states(backend).count("failed") == 0


def test_a_refused_subscription_is_told_and_the_wait_for_it_ends(
    frame: Driven, backend: Backend, broker: BrokerHandle, repository: Repository
) -> None:
    published, _ = model(repository)
    backend.put(repository.retained)
    narrow = frame_user(FRAME)
    allowed = narrow["permissions"]["subscribe"]["allow"]
    narrow["permissions"]["subscribe"]["allow"] = [name for name in allowed if not name.startswith("repo")]
    broker.reload([backend_user(), narrow])
    until(lambda: backend.client.is_connected())
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, published)))
    frame.start()
    until(lambda: "failed" in states(backend))
    until(lambda: frame.outbox.waiting == 0)
    events = [event for event in backend.events.values() if isinstance(event, HealthEvent)]
    assert [event.kind for event in events] == ["subscription_refused", "not_available"]
    assert topics.REPO_HEAD in events[0].detail


def test_simulated_frames_have_random_client_ids_that_are_new_at_every_connection(
    broker: BrokerHandle, backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    real = aiomqtt.Client

    def spying(*arguments: Any, identifier: str, **options: Any) -> Any:
        seen.append(identifier)
        return real(*arguments, identifier=identifier, **options)

    monkeypatch.setattr(aiomqtt, "Client", spying)
    caplog.set_level("DEBUG")
    for _ in range(2):
        greeted = len(backend.hellos)
        frame = Driven("asyncio", broker, Repository().anchors())
        frame.start()
        until(lambda greeted=greeted: len(backend.hellos) > greeted)  # type: ignore[misc]
        frame.stop()
    assert len(set(seen)) == len(seen) >= 2
    assert {len(bytes.fromhex(one)) for one in seen} == {16}
    assert not [one for one in seen if one in caplog.text]
