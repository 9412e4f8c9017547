"""Settled frames live in turns, in which their people do much at once; a frame that was silent for long says hello."""

from types import SimpleNamespace
from typing import Any, cast

from simulator.driver import FrameDriver
from simulator.frames import Lived, SimulatedFrame
from simulator.run import SILENCE_MS, live_on

HOUR_MS = 3_600_000


class Frame(SimpleNamespace):
    told_ms: int
    lived: Lived

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


def test_films_count_for_a_release_on_probation() -> None:
    proving = frame(Lived(events=3, films=2, release="r"), probation=object())
    assert did(proving, HOUR_MS) == ["events", "2 films of r"]
