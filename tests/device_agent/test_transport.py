"""The agent's loop: what had happened by its end is not forgotten."""

import ssl
import time
from pathlib import Path

import pytest

from device_agent import transport
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


class BrokenLine:
    """Asks for another connection, whose files cannot be read."""

    generation = 0

    def __init__(self, files: TlsFiles) -> None:
        self._files = files

    def context(self) -> ssl.SSLContext:
        if self.generation:
            raise OSError("damaged")
        return self._files.context()

    def failed(self, *, refused: bool, dates: bool, now: float) -> None:
        pass


def test_a_connection_that_must_be_made_anew_is_heard_no_more_even_while_the_next_cannot_be_made(
    tmp_path: Path,
) -> None:
    authority = test_authority(tmp_path / "authority")
    issued = authority.issue("frame-1")
    line = BrokenLine(TlsFiles(authority.ca, issued.cert, issued.key))
    driver = MqttDriver(HangingCore(), "mqtts://127.0.0.1:9", line)
    heard: list[int] = []

    def happened(said: int) -> None:
        def hear(_: float) -> list[Command]:
            heard.append(said)
            return []

        driver._happened(driver._client, hear)

    def change(_: float) -> list[Command]:
        line.generation = 1
        return []

    def stop(_: float) -> list[Command]:
        driver.stop()
        return []

    happened(1)
    driver.submit(change)
    happened(2)
    driver.submit(stop)
    driver.run()
    assert heard == [1]


def test_a_loop_in_which_every_turn_fails_is_not_well_and_one_good_turn_heals_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = test_authority(tmp_path / "authority")
    issued = authority.issue("frame-1")
    well: list[bool] = []
    monkeypatch.setattr(transport, "IDLE_S", 0.01)
    monkeypatch.setattr(transport, "FAILING_S", 0.2)

    def broken(_: float) -> list[Command]:
        time.sleep(0.05)
        raise ValueError("a mistake")

    def good(_: float) -> list[Command]:
        return []

    def each_turn() -> None:
        well.append(driver.well)
        if len(well) > len(happenings):
            driver.stop()
            return
        driver.submit(happenings[len(well) - 1])

    happenings = [good, *[broken] * 8, good]
    driver = MqttDriver(
        HangingCore(), "mqtts://127.0.0.1:9", TlsFiles(authority.ca, issued.cert, issued.key), each_turn
    )
    driver.run()
    assert well[:2] == [True, True]
    assert not well[-2]
    assert well[-1]
