"""The agent as its service manager starts it: settings from a file, a watchdog, and nothing heavy while it is idle."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.device_agent.live import FRAME, Backend, LiveAgent, until
from tests.device_agent.repository import Repository, desired
from tests.device_agent.service_manager import ServiceManager, loaded
from tests.services import BrokerHandle


@pytest.mark.slow
def test_it_tells_when_it_runs_feeds_the_watchdog_stays_light_and_says_that_it_stops(
    tmp_path: Path, broker: BrokerHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, repository = Backend(broker), Repository()
    agent = LiveAgent(tmp_path / "frame", broker, FRAME, repository.anchors())
    settings = tmp_path / "agent.toml"
    settings.write_text(f'dir = "{agent.folder}"\nmqtt = "{broker.url}"\nlog_level = "WARNING"\n')
    monkeypatch.setenv("FRAMEFLEET_AGENT_CONFIG", str(settings))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "900000")
    said: list[str] = []

    def times(text: str) -> int:
        said.extend(manager.heard())
        return sum(text in line for line in said)

    with ServiceManager(str(tmp_path / "notify")) as manager:
        with agent.log.open("ab") as log:
            agent.process = subprocess.Popen([sys.executable, "-m", "device_agent", "run"], stdout=log, stderr=log)
        try:
            until(lambda: times("READY=1") == 1)
            assert said[0].startswith("READY=1\nSTATUS=frame-1: no release yet; idle; ")
            until(lambda: times("; connected;") > 0 and times("WATCHDOG=1") >= 2)
            backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1)))
            until(lambda: bool(backend.reports) and backend.reports[-1].desired_version == 1)
            assert loaded(agent.process.pid) == [], "rendering has a process of its own"
            command = [sys.executable, "-m", "device_agent", "status"]
            status = msgspec.json.decode(subprocess.run(command, capture_output=True, check=True).stdout)
            assert (status["running"], status["online"], status["outbox_waiting"]) == (True, True, 0)
            assert status["runtime"] == {"setting": "auto", "uses": None, "why": None}
        finally:
            assert agent.stop() == 0
            backend.close()
        assert times("STOPPING=1") == 1
    assert "Traceback" not in agent.log.read_text()
