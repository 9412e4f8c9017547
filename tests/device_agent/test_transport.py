"""The agent's loop: what had happened by its end is not forgotten."""

from pathlib import Path

from device_agent.transport import MqttDriver, TlsFiles
from protocol.exchange import Command
from tests.device_agent.test_notify import HangingCore
from tests.services import test_authority


def test_what_waits_when_the_agent_stops_is_still_noted(tmp_path: Path) -> None:
    authority = test_authority(tmp_path / "authority")
    issued = authority.issue("frame-1")
    driver = MqttDriver(HangingCore(), "mqtts://127.0.0.1:9", TlsFiles(authority.ca, issued.cert, issued.key))
    noted: list[str] = []

    def stop(_: float) -> list[Command]:
        driver.stop()
        return []

    def broken(_: float) -> list[Command]:
        raise ValueError("a mistake")

    def crash(_: float) -> list[Command]:
        noted.append("crash")
        return []

    for happening in (stop, broken, crash):
        driver.submit(happening)
    driver.run()
    assert noted == ["crash"]
