"""Settled frames live in turns, in which their people do much at once; a frame that was silent for long says hello."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from device_agent.core import FrameCore
from device_agent.installer.slots import Installed
from device_agent.ports import FrameIdentity
from simulator.driver import FrameDriver
from simulator.frames import Lived, SimulatedFrame
from simulator.run import SILENCE_MS, live_on

HOUR_MS = 3_600_000


class Frame(SimpleNamespace):
    told_ms: int
    lived: Lived
    changed_agent: bool = False

    def change_agent(self) -> bool:
        return self.changed_agent

    def live(self, until_ms: int) -> Lived:
        if self.lived.events:
            self.told_ms = until_ms
        return self.lived


class Driver:
    def __init__(self) -> None:
        self.did: list[str] = []

    def wake_up(self) -> None:
        self.did.append("events")

    def greet(self) -> None:
        self.did.append("hello")

    def played(self, release: str, films: int) -> None:
        self.did.append(f"{films} films of {release}")


def did(frame: Any, until_ms: int) -> list[str]:
    driver = Driver()
    live_on(cast(SimulatedFrame, frame), cast(FrameDriver, driver), until_ms)
    return driver.did


def frame(lived: Lived, probation: object = None) -> Frame:
    return Frame(told_ms=0, lived=lived, core=SimpleNamespace(journal=SimpleNamespace(probation=probation)))


def test_a_frame_in_front_of_which_nobody_plays_says_hello_before_it_counts_as_dark() -> None:
    silent = frame(Lived())
    hours = [hour for hour in range(72) if did(silent, hour * HOUR_MS) == ["hello"]]
    assert SILENCE_MS < 24 * HOUR_MS
    assert hours == [17, 34, 51, 68]


def test_whoever_plays_need_not_say_hello() -> None:
    busy = frame(Lived(events=3, films=1, release="r"))
    assert all(did(busy, hour * HOUR_MS) == ["events"] for hour in range(72))


def test_a_frame_that_goes_on_with_another_agent_says_so() -> None:
    changed = frame(Lived())
    changed.changed_agent = True
    assert did(changed, HOUR_MS) == ["hello"]


def test_a_simulated_frame_says_it_runs_the_agent_of_its_release_until_it_gives_that_back() -> None:
    image = FrameIdentity("sim-1", "simulated", "zh", "0.1.0", simulated=True)
    journal = SimpleNamespace(agent=None)
    core = SimpleNamespace(identity=image, journal=journal)
    none: Any = None
    simulated = SimulatedFrame(cast(FrameCore, core), none, none, none, none, "mandarin", image)
    assert not simulated.change_agent()
    journal.agent = Installed(kind="agent", path="agent/a", length=1, sha256="a" * 64, version="2.0")
    assert simulated.change_agent()
    assert not simulated.change_agent()
    assert core.identity == replace(image, agent="a" * 64, agent_version="2.0")
    journal.agent = None
    assert simulated.change_agent()
    assert core.identity == image


def test_films_count_for_a_release_on_probation() -> None:
    proving = frame(Lived(events=3, films=2, release="r"), probation=object())
    assert did(proving, HOUR_MS) == ["events", "2 films of r"]
