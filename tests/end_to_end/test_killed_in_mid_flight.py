"""`kill -9` of the agent in mid-download, then of the broker, then of the bridge: each resumes, the frame commits the
release, and no event is lost or counted twice. Everything is real: the whole stack under its supervisor."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from protocol.limits import CHUNK_SIZE
from standalone.broker import find_binary
from standalone.ctl import Framectl
from standalone.demo import ADAPTER, BUNDLE, NAME
from standalone.frames import (
    Batch,
    People,
    agent_service,
    copy_anchors,
    enrol_agent,
    enrol_simulated,
    simulator_service,
)
from standalone.postgres import find_binaries
from standalone.processes import free_port
from standalone.stack import Stack
from standalone.supervisor import Supervisor, supervise
from tests.services import require

pytestmark = pytest.mark.slow

SIMULATED = 8
EVENT_TABLES = ("fleet_playback", "fleet_complaint", "fleet_powersample", "fleet_healthevent")


async def until(check: Callable[[], object], seconds: float, what: str, interval: float = 0.2) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(check):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(interval)


class World:
    """A small fleet: one full agent that starts blank, a few simulated frames."""

    def __init__(self, stack: Stack, supervisor: Supervisor) -> None:
        self.stack = stack
        self.supervisor = supervisor

    async def begin(self) -> None:
        stack, supervisor = self.stack, self.supervisor
        await stack.start_database(supervisor)
        frames = await enrol_simulated(stack, supervisor, [Batch("sim", SIMULATED, "zh")])
        self.agent = await enrol_agent(stack, supervisor, "zh")
        await stack.start_services(supervisor)
        self.ctl = Framectl(stack.url, await stack.api_token(supervisor))
        self.offline = stack.var / "offline"
        await self.ctl("keys", "create", "--out", str(self.offline), quiet=True)
        await self.ctl("repository", "init", "--offline", str(self.offline), quiet=True)
        await self.sign("1.0", "--base-model", str(BUNDLE))
        await self.push("1.0")
        for folder in (stack.var / "trust", self.agent / "trust"):
            copy_anchors(self.offline, folder)
        await supervisor.start(agent_service(stack, self.agent, [stack.var], free_port()))
        people = People(day_seconds=3.0, start_days_ago=10.0)
        factory = self.package("1.0")
        await supervisor.start(simulator_service(stack, frames, stack.var / "trust", factory, people))
        await self.ctl("groups", "create", "everyone", "--query", "", quiet=True)

    def package(self, version: str) -> Path:
        return self.stack.var / f"{version}.zip"

    async def sign(self, version: str, *what: str) -> None:
        who = ("--offline", str(self.offline), "--name", NAME, "--version", version)
        await self.ctl("release", "sign", *who, *what, "--out", str(self.package(version)), quiet=True)

    async def push(self, version: str) -> None:
        await self.ctl("release", "push", str(self.package(version)), quiet=True)

    async def start_rollout(self, version: str) -> str:
        what = ("--release", f"{NAME} {version}", "--group", "everyone", "--stages", "100")
        return str((await self.ctl("rollout", "start", *what, quiet=True))["id"])

    async def ended(self, rollout: str) -> str:
        watched = await self.ctl("rollout", "watch", rollout, "--timeout", "90", quiet=True)
        return str(watched["state"])

    async def agent_frame(self) -> dict[str, object]:
        frames = await self.ctl("frames", "--limit", "100", quiet=True)
        return dict(next(frame for frame in frames if not frame["simulated"]))

    def downloaded(self) -> int:
        """Bytes of the largest download that is under way."""
        return max((path.stat().st_size for path in (self.agent / "partial").glob("*")), default=0)

    def kill9(self, service: str) -> None:
        pid = self.supervisor.status()[service].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def log(self, service: str) -> str:
        return (self.supervisor.log_dir / f"{service}.log").read_text()

    async def restarted(self, service: str) -> None:
        def back() -> bool:
            status = self.supervisor.status()[service]
            return status.restarts >= 1 and status.state == "ready"

        await until(back, 30, f"{service} is back")

    async def drained(self) -> None:
        """The people have caught up with real time and do almost nothing; their frames' outboxes have run empty."""
        before = -1
        for _ in range(15):
            events, waiting = simulated_events(self.log("simulator"))
            if waiting == 0 and events == before:
                return
            before = events
            await asyncio.sleep(5.5)  # a status line comes every 5 s
        raise AssertionError("the outboxes do not run empty")

    def count(self, query: str) -> int:
        with psycopg.connect(self.stack.postgres.url) as connection:
            row = connection.execute(query).fetchone()
            assert row is not None
            return int(row[0])


def simulated_events(log: str) -> tuple[int, int]:
    """Events the simulated people made, and those still waiting on the frames, from the newest status line."""
    found = re.findall(r"; (\d+) events, (\d+) waiting", log)
    return (int(found[-1][0]), int(found[-1][1])) if found else (0, -1)


def test_each_resumes_the_frame_commits_and_every_event_counts_once(tmp_path: Path) -> None:
    require(find_binaries)
    require(find_binary)
    seen: dict[str, object] = {}

    async def story(supervisor: Supervisor) -> int:
        world = World(Stack.below(tmp_path / "var"), supervisor)
        await world.begin()
        size = BUNDLE.stat().st_size

        rollout = await world.start_rollout("1.0")
        await until(lambda: world.downloaded() > size // 8, 30, "the agent is in mid-download", 0.002)
        world.kill9("agent")
        seen["held_by_agent"] = held = world.downloaded()
        assert 0 < held < size, "the agent was not in mid-download"
        await until(lambda: world.downloaded() > held, 30, "the agent goes on", 0.002)
        world.kill9("broker")
        seen["held_by_broker"] = world.downloaded()
        assert held < world.downloaded() < size, "the broker was not in mid-download"
        await until(lambda: world.downloaded() == 0, 60, "the download is complete")
        world.kill9("bridge")
        for service in ("agent", "broker", "bridge"):
            await world.restarted(service)
        assert await world.ended(rollout) == "succeeded"
        seen["moved"] = [int(moved) for moved in re.findall(r"bundle, (\d+) bytes moved", world.log("agent"))]

        # A second release while events flow, and the bridge dies once more in the middle of it.
        await world.sign("1.1", "--base-release", f"{NAME} 1.0", "--adapter", str(ADAPTER))
        await world.push("1.1")
        rollout = await world.start_rollout("1.1")
        world.kill9("bridge")
        assert await world.ended(rollout) == "succeeded"
        seen["agent"] = await world.agent_frame()

        await world.drained()
        await supervisor.stop("simulator")
        final = json.loads(world.log("simulator").rpartition("SIMULATOR ")[2])
        seen["made"] = final["events"] - final["waiting"]
        seen["lost"] = final["lost"]
        simulated = "where frame_id like 'sim-%'"
        # Health events are told by the frames themselves, not by people, and are counted with theirs.
        seen["rows"] = sum(world.count(f"select count(*) from {table} {simulated}") for table in EVENT_TABLES)
        seen["playbacks"] = world.count(f"select count(*) from fleet_playback {simulated}")
        seen["rolled_up"] = world.count(f"select sum(playbacks) from fleet_frameday {simulated}")
        return 0

    assert supervise(tmp_path / "var", story) == 0
    assert isinstance(seen["agent"], dict)
    assert seen["agent"]["release_name"] == f"{NAME} 1.1"
    # What the agent held when it was killed was not fetched again, nor was anything when the broker was.
    assert isinstance(seen["moved"], list)
    assert isinstance(seen["held_by_agent"], int)
    assert 0 < sum(seen["moved"]) <= BUNDLE.stat().st_size - seen["held_by_agent"] + CHUNK_SIZE
    assert seen["lost"] == 0
    assert seen["rows"] == seen["made"]
    assert seen["rolled_up"] == seen["playbacks"]
    assert isinstance(seen["playbacks"], int)
    assert seen["playbacks"] > 100
