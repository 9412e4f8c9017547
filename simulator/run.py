"""The process: all frames on one loop, their people on a faster clock, a status line, and a summary at the end."""

import asyncio
import json
import logging
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent.folder import ConfigError
from device_agent.ports import TrialPolicy, wall_clock_ms
from device_agent.settings.address import parse_url
from protocol.clock import PeopleClock
from protocol.codec import decode
from protocol.errors import Refused
from protocol.repository import ReleaseManifest
from simulator.content import SharedContent
from simulator.driver import Broker, FrameDriver, SharedTls
from simulator.factory import FactoryRelease, read_factory
from simulator.frames import (
    Enrolled,
    Shared,
    SimulatedFrame,
    make_frame,
    provision,
    read_anchors,
    read_enrolled,
)
from simulator.people import Household
from simulator.trials import SharedTrials, TrialProcess
from simulator.trust import TrustCache

log = logging.getLogger(__name__)

DAY_S = 86_400.0
LIVE_EVERY_S = 0.25
TURN_DAYS, TURN_S = 0.25, 3.0
"""People's time, and real time at most, that a settled frame's household lives at once: few batches, each of some
events. A frame on which something happens to its release has a turn every LIVE_EVERY_S."""
GATHER_S = 90.0
"""People wait so long for all frames to be connected: telemetry of days before would only stand in everybody's way."""
SILENCE_MS = 16 * 3_600_000
"""Of people's time: a frame in front of which nobody played for so long says hello. Dark is 24 hours."""
STATUS_EVERY_S = 2.0
TIDY_EVERY_S = 60.0
STOP_S = 3.0
"""How long connections may take to close; the process ends then in any case."""
WORKERS = 2
"""Threads for trials; a trial is measured once, the others wait for it."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    frames: Path
    trust: Path
    mqtt: str
    factory: Path
    day_seconds: float
    start_days_ago: float
    seed: int
    clock: PeopleClock | None = None
    """The clock the backend lives by too. Otherwise people begin to live when the process does."""


class Simulator:
    """Frames, drivers and people of one process."""

    def __init__(self, frames: list[SimulatedFrame], drivers: list[FrameDriver], clock: PeopleClock, shared: Shared):
        self.frames = frames
        self.drivers = drivers
        self._clock = clock
        self._shared = shared
        self._names: dict[str | None, str] = {None: "blank"}
        """Release -> how the status line calls it."""
        self._tidied = time.monotonic()
        self._turns = max(1, round(min(TURN_S, TURN_DAYS * clock.day_seconds) / LIVE_EVERY_S))

    async def run(self, stop: asyncio.Event) -> dict[str, Any]:
        """Until ``stop`` is set; connections are then closed within STOP_S. Returns the figures of that moment."""
        tasks = [asyncio.create_task(driver.run()) for driver in self.drivers]
        people = asyncio.create_task(self._live())
        status = asyncio.create_task(self._report())
        stopping = asyncio.create_task(stop.wait())
        ended, _ = await asyncio.wait((stopping, people, status), return_when=asyncio.FIRST_COMPLETED)
        last = self.status()
        everything: list[asyncio.Task[Any]] = [stopping, people, status, *tasks]
        for task in everything:
            task.cancel()
        await asyncio.wait(everything, timeout=STOP_S)
        for task in ended:
            task.result()  # people or status line ended by a fault: better to end loudly than to idle on
        return last

    def status(self) -> dict[str, Any]:
        """Figures of this moment."""
        releases = Counter(self._name(frame) for frame in self.frames)
        states = Counter(frame.core.journal.state for frame in self.frames)
        appended = sum(frame.appended for frame in self.frames)
        waiting = sum(frame.outbox.waiting for frame in self.frames)
        lost = sum(frame.outbox.lost for frame in self.frames)
        return {
            "frames": len(self.frames),
            "connected": sum(driver.connected for driver in self.drivers),
            "releases": dict(sorted(releases.items())),
            "states": dict(sorted(states.items())),
            "events": appended,
            "waiting": waiting,
            "lost": lost,
            "people_time_ms": self._clock.at(wall_clock_ms()),
            "verified": self._shared.trust.verified,
            "verified_reused": self._shared.trust.reused,
        }

    async def _live(self) -> None:
        beat = 0
        await self._gather()
        while True:
            beat += 1
            until = self._clock.at(wall_clock_ms())
            for number, (frame, driver) in enumerate(zip(self.frames, self.drivers, strict=True)):
                if frame.settled and (number + beat) % self._turns:
                    continue
                live_on(frame, driver, until)
                if number % 100 == 99:
                    await asyncio.sleep(0)  # messages go before people
            if time.monotonic() - self._tidied > TIDY_EVERY_S:
                self._tidied = time.monotonic()
                self._shared.content.tidy(frame.store for frame in self.frames)
            await asyncio.sleep(LIVE_EVERY_S)

    async def _gather(self) -> None:
        """Until all frames are connected, or not in time. Their people have done nothing then."""
        patience = time.monotonic() + GATHER_S
        while time.monotonic() < patience and not all(driver.connected for driver in self.drivers):
            await asyncio.sleep(LIVE_EVERY_S)
        now = self._clock.at(wall_clock_ms())
        for frame in self.frames:
            frame.begin(now)

    async def _report(self) -> None:
        while True:
            print(status_line(self.status()), flush=True)
            await asyncio.sleep(STATUS_EVERY_S)

    def _name(self, frame: SimulatedFrame) -> str:
        playing = frame.core.playing
        release = None if playing is None else playing.release
        if release is not None and release not in self._names:
            manifest = decode(self._shared.content.artifacts[release], ReleaseManifest)
            self._names[release] = f"{manifest.name} {manifest.version}"
        return self._names[release]


def live_on(frame: SimulatedFrame, driver: FrameDriver, until_ms: int) -> None:
    """Let the people of one frame live, and have the frame say what there is to say."""
    if frame.change_agent():
        driver.greet()
    lived = frame.live(until_ms)
    if lived.events:
        driver.wake_up()
    elif until_ms - frame.told_ms > SILENCE_MS:
        frame.told_ms = until_ms
        driver.greet()
    if lived.films and lived.release is not None and frame.core.journal.probation is not None:
        driver.played(lived.release, lived.films)


def status_line(status: dict[str, Any]) -> str:
    """The figures in one line."""
    releases = ", ".join(f"{count} on {name}" for name, count in status["releases"].items())
    day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(status["people_time_ms"] / 1000))
    return (
        f"{status['connected']} of {status['frames']} simulated frames connected; {releases}; "
        f"{status['events']} events, {status['waiting']} waiting; people's time {day}"
    )


async def simulate(options: Options) -> dict[str, Any]:
    """Run until SIGTERM or SIGINT; returns the last figures. Raises ConfigError with one sentence."""
    began = wall_clock_ms()
    try:
        host, port = parse_url(options.mqtt)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    enrolled = read_enrolled(options.frames)
    content = SharedContent()
    trials = TrialProcess()
    shared = Shared(content, SharedTrials(content.artifacts, trials.measure), TrustCache(), read_anchors(options.trust))
    factory = read_factory(options.factory, content)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="work")
    clock = options.clock or PeopleClock(began, options.start_days_ago, options.day_seconds)
    broker = Broker(host, port, executor)
    try:
        frames = await _born(enrolled, shared, factory, clock, options.seed, executor)
        tls = SharedTls(enrolled[0].tls)
        drivers = [
            FrameDriver(frame.core, broker, tls.of(one.tls)) for frame, one in zip(frames, enrolled, strict=True)
        ]
        simulator = Simulator(frames, drivers, clock, shared)
        return await simulator.run(stop)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        trials.close()


async def _born(
    enrolled: list[Enrolled],
    shared: Shared,
    factory: FactoryRelease,
    clock: PeopleClock,
    seed: int,
    executor: ThreadPoolExecutor,
) -> list[SimulatedFrame]:
    """All frames with the factory's release in slot A, measured on the golden clips like any other."""
    loop = asyncio.get_running_loop()
    try:
        report = await loop.run_in_executor(executor, shared.trials.measure, factory.slot)
    except Refused as refused:
        raise ConfigError(f"The factory's release cannot play: {refused.detail}") from None
    if report.failure is not None:
        raise ConfigError(f"The factory's release does not pass its own trial: {report.failure.detail}")
    start = clock.start_ms
    policy = TrialPolicy(rate=DAY_S / clock.day_seconds)
    return [
        make_frame(
            one,
            shared,
            lambda store: provision(factory, store, report),
            Household(seed, one.identity.frame_id, start),
            policy,
        )
        for one in enrolled
    ]


def run(options: Options) -> int:
    """Run the process; its last line on stdout is JSON."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("mqtt").setLevel(logging.ERROR)
    with suppress(KeyboardInterrupt):
        print(f"SIMULATOR {json.dumps(asyncio.run(simulate(options)))}", flush=True)
    return 0
