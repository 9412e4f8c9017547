"""What a service manager hears, on a real unix datagram socket."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.notify import Notifier
from device_agent.transport import MqttDriver, TlsFiles
from protocol.exchange import Command, Done
from protocol.sequences import Perform
from tests.device_agent.live import until
from tests.device_agent.service_manager import ServiceManager
from tests.services import test_authority


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@framefleet-test-{os.getpid()}"


@pytest.fixture
def manager(address: str) -> Iterator[ServiceManager]:
    with ServiceManager(address) as manager:
        yield manager


def test_it_is_told_once_what_is_new_and_fed_in_time(address: str, manager: ServiceManager) -> None:
    notifier = Notifier(address, watchdog_s=30.0)
    notifier.ready("starting\nup")
    notifier.status("starting up")
    notifier.status("plays portrait 1.0")
    for now in (100.0, 101.0, 109.0, 110.0, 125.0):
        notifier.beat(now)
    notifier.stopping()
    assert manager.heard() == [
        "READY=1\nSTATUS=starting up",
        "STATUS=plays portrait 1.0",
        *["WATCHDOG=1"] * 3,
        "STOPPING=1",
    ]


def test_the_environment_is_taken_so_that_no_child_speaks_for_the_agent(address: str, manager: ServiceManager) -> None:
    environment = {
        "NOTIFY_SOCKET": address,
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    notifier = Notifier.from_environment(environment)
    assert environment == {"HOME": "/"}
    notifier.beat(100.0)
    notifier.beat(100.9)
    notifier.beat(101.1)
    assert manager.heard() == ["WATCHDOG=1"] * 2


def test_a_watchdog_for_another_process_is_not_fed(address: str, manager: ServiceManager) -> None:
    Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}).beat(100.0)
    assert manager.heard() == []


def test_a_manager_that_is_not_there_or_does_not_read_stops_nothing(tmp_path: Path) -> None:
    Notifier().ready("alone")
    Notifier(str(tmp_path / "nobody")).ready("alone")
    with ServiceManager(str(tmp_path / "deaf")) as deaf:
        notifier = Notifier(deaf.address, watchdog_s=3.0)
        for now in range(5_000):  # far more than the socket holds; would hang if it waited
            notifier.beat(float(now))
        assert 0 < len(deaf.heard()) < 5_000


class HangingCore:
    """Works, until it does not."""

    def __init__(self) -> None:
        self.hang = threading.Event()
        self.hangs = threading.Event()
        self.go_on = threading.Event()
        self.deadline = None

    def tick(self, now: float) -> list[Command]:
        del now
        if self.hang.is_set():
            self.hangs.set()
            self.go_on.wait(20)
        return []

    def connected(self, now: float) -> list[Command]:
        return self.tick(now)

    def disconnected(self) -> None: ...

    def received(self, topic: str, payload: bytes, now: float) -> list[Command]:
        del topic, payload
        return self.tick(now)

    def performed(self, work: Perform, outcome: Done[object], now: float) -> list[Command]:
        del work, outcome
        return self.tick(now)

    def fault(self, kind: str, detail: str, now: float) -> list[Command]:
        del kind, detail
        return self.tick(now)


def test_a_loop_that_hangs_feeds_no_watchdog(tmp_path: Path) -> None:
    authority = test_authority(tmp_path / "authority")
    issued = authority.issue("frame-1")
    tls = TlsFiles(authority.ca, issued.cert, issued.key)
    core = HangingCore()
    with ServiceManager(str(tmp_path / "notify")) as manager:
        notifier = Notifier(manager.address, watchdog_s=0.03)
        driver = MqttDriver(core, "mqtts://127.0.0.1:9", tls, lambda: notifier.beat(time.monotonic()))
        loop = threading.Thread(target=driver.run)
        loop.start()
        try:
            until(lambda: "WATCHDOG=1" in manager.heard())
            core.hang.set()
            assert core.hangs.wait(10)
            manager.heard()
            time.sleep(0.3)
            assert manager.heard() == []
            core.hang.clear()
            core.go_on.set()
            until(lambda: "WATCHDOG=1" in manager.heard())
        finally:
            core.go_on.set()
            driver.stop()
            loop.join(10)
