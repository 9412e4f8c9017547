"""A small fleet for tests: the whole stack, one full agent that starts blank, a few simulated frames.

In this process under a supervisor (``World``), or as a process of its own: ``python -m tests.end_to_end.world FOLDER``
brings everything up with release 1.0 on all frames, writes ``FOLDER/world.json`` (``Facts``) and stays until SIGTERM.
"""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from standalone.ctl import Framectl
from standalone.demo import BUNDLE, NAME, PHOTO, VOICE
from standalone.frames import (
    Batch,
    People,
    agent_service,
    claim_agent,
    copy_anchors,
    enrol_simulated,
    simulator_service,
)
from standalone.household import HouseholdPage
from standalone.processes import free_port
from standalone.stack import USER, Stack
from standalone.supervisor import Supervisor, supervise

AGENT = "living-room-0001"
SIMULATED = 8


class Facts(msgspec.Struct, frozen=True):
    """Where everything of a running world is."""

    server: str
    token: str
    user: str
    password: str
    page_port: int
    broker_port: int
    var: str

    @property
    def folder(self) -> Path:
        return Path(self.var)


def framectl(world: Facts, *arguments: str) -> Any:
    """What ``framectl ARGUMENTS --json`` prints, asked of a running world."""
    return asyncio.run(Framectl(world.server, world.token)(*arguments, quiet=True))


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
        await stack.start_services(supervisor)
        self.token = await stack.api_token(supervisor)
        self.ctl = Framectl(stack.url, self.token)
        self.agent = await claim_agent(stack, supervisor, self.ctl, "zh")
        self.offline = stack.var / "offline"
        await self.ctl("keys", "create", "--out", str(self.offline), quiet=True)
        await self.ctl("repository", "init", "--offline", str(self.offline), quiet=True)
        await self.sign("1.0", "--base-model", str(BUNDLE))
        await self.push("1.0")
        for folder in (stack.var / "trust", self.agent / "trust"):
            copy_anchors(self.offline, folder)
        self.page_port = free_port()
        await supervisor.start(agent_service(stack, self.agent, [stack.var, PHOTO.parent], self.page_port))
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
        what = ("--release", f"{NAME} {version}", "--group", "everyone", "--stages", "100", "--with-base-model")
        return str((await self.ctl("rollout", "start", *what, quiet=True))["id"])

    async def ended(self, rollout: str) -> str:
        """The state the rollout ends in; meanwhile the agent's household proves what is on probation there."""
        watching = asyncio.ensure_future(self.ctl("rollout", "watch", rollout, "--timeout", "90", quiet=True))
        try:
            await HouseholdPage(self.page_port).prove(PHOTO, VOICE, self.stack.var / "probation.mp4", watching)
            return str((await watching)["state"])
        finally:
            watching.cancel()

    async def agent_frame(self) -> dict[str, object]:
        frames = await self.ctl("frames", "--limit", "100", quiet=True)
        return dict(next(frame for frame in frames if not frame["simulated"]))

    def downloaded(self) -> int:
        """Bytes of the largest download that is under way."""
        sizes = [0]
        for path in (self.agent / "partial").glob("*"):
            with suppress(FileNotFoundError):  # complete by now
                sizes.append(path.stat().st_size)
        return max(sizes)

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
        for _ in range(40):
            events, waiting = simulated_events(self.log("simulator"))
            if waiting == 0 and events == before:
                return
            before = events
            await asyncio.sleep(2.2)  # a status line comes every 2 s
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


def main(folder: Path) -> int:
    async def story(supervisor: Supervisor) -> int:
        world = World(Stack.below(folder), supervisor)
        await world.begin()
        assert await world.ended(await world.start_rollout("1.0")) == "succeeded"
        stack = world.stack
        facts = Facts(
            server=stack.url,
            token=world.token,
            user=USER,
            password=stack.password,
            page_port=world.page_port,
            broker_port=stack.broker.port,
            var=str(stack.var),
        )
        fresh = folder / "world.json.new"
        fresh.write_bytes(msgspec.json.encode(facts))
        fresh.replace(folder / "world.json")
        return await supervisor.wait()

    return supervise(folder, story)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
