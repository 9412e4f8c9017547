"""Frames on this machine: one full device agent, and many simulated ones in one process."""

import csv
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from protocol.clock import DAY_MS, PeopleClock
from standalone.ctl import Framectl
from standalone.service import Service
from standalone.stack import ROOT, Stack
from standalone.supervisor import Supervisor

AGENT = "living-room-0001"
"""The full agent's frame."""
HARDWARE = "rk3588"

ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Batch:
    """Simulated frames with one locale."""

    prefix: str
    count: int
    locale: str


@dataclass(frozen=True)
class People:
    """How fast the simulated people's days pass, and how long ago their first day was; or the clock that the backend
    lives by too."""

    day_seconds: float = 12.0
    start_days_ago: float = 14.0
    seed: int = 1
    clock: PeopleClock | None = None

    def options(self) -> tuple[str, ...]:
        """For the simulator's command line."""
        pace = ("--day-seconds", str(self.day_seconds), "--start-days-ago", str(self.start_days_ago))
        return (*(pace if self.clock is None else ("--clock", str(self.clock))), "--seed", str(self.seed))


def people_clock(begins_ms: int, days_ago: int, day_seconds: float) -> PeopleClock:
    """A clock that begins to go at ``begins_ms`` (real, ms since 1970 UTC), at a midnight (UTC) of people's time: their
    history ends there."""
    return PeopleClock(begins_ms, days_ago + begins_ms % DAY_MS / DAY_MS, day_seconds)


async def enrol_simulated(stack: Stack, supervisor: Supervisor, batches: list[Batch]) -> Path:
    """Enrol simulated frames; the folder with one folder for each."""
    out = stack.var / "frames"
    for batch in batches:
        what = ("--prefix", batch.prefix, "--count", str(batch.count), "--locale", batch.locale)
        await stack.manage(supervisor, "enrol_frames", *what, "--simulated", "--out", str(out))
    return out


async def load_history(
    stack: Stack, supervisor: Supervisor, frames: Path, factory: Path, people: People, days: int
) -> str:
    """The days before people's clock began, made by the simulator and taken in by the backend; what both said."""
    out = stack.var / "history.jsonl"
    what = ("--frames", str(frames), "--factory", str(factory), "--days", str(days), "--out", str(out))
    argv = [sys.executable, "-m", "simulator", "history", *what, *people.options()]
    said = await supervisor.run_once("history", argv, env=ENVIRONMENT, cwd=ROOT)
    loaded = await stack.manage(supervisor, "load_history", str(out))
    out.unlink()
    return f"{said.strip().rpartition(':')[0]}. {loaded.strip()}"


async def claim_agent(stack: Stack, supervisor: Supervisor, ctl: Framectl, locale: str) -> Path:
    """The full agent's frame is born as in a factory and a home: made known by a CSV, then claimed with its label's
    token over HTTPS. Its folder, in which ``identity/`` is complete and ``trust/`` is not yet."""
    known, claims = stack.var / "agent.csv", stack.var / "agent-claims.csv"
    known.write_text(f"frame_id,household,locale,hardware\n{AGENT},{AGENT},{locale},{HARDWARE}\n")
    claims.unlink(missing_ok=True)  # of a telling that was interrupted here
    await ctl("frames", "import", str(known), "--claims", str(claims), quiet=True)
    label = stack.var / "agent-label"
    with claims.open() as file:
        _write_secret(label, next(csv.DictReader(file))["url"])
    folder = stack.var / "agent"
    where = ("--dir", str(folder), "--ca", str(stack.ca), "--hardware", HARDWARE, "--locale", locale)
    argv = [sys.executable, "-m", "device_agent", "claim", *where, "--token-file", str(label)]
    await supervisor.run_once("claim", argv, env=ENVIRONMENT, cwd=ROOT)
    for spent in (known, claims, label):
        spent.unlink()
    return folder


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def copy_anchors(offline: Path, trust: Path) -> None:
    """What a factory does: give frames the first root documents of both chains."""
    trust.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("root", "director-root"):
        shutil.copyfile(offline / "metadata" / f"1.{name}.json", trust / f"{name}.json")


def agent_service(stack: Stack, folder: Path, media: list[Path], page_port: int) -> Service:
    """The full device agent. From and into the folders ``media`` the household's page may play."""
    where = ("--dir", str(folder), "--mqtt", stack.broker.url, "--port", str(page_port))
    may = [part for path in media for part in ("--media", str(path))]
    return Service(
        "agent",
        (sys.executable, "-m", "device_agent", "run", *where, *may),
        env=ENVIRONMENT,
        cwd=ROOT,
    )


def simulator_service(stack: Stack, frames: Path, trust: Path, factory: Path, people: People) -> Service:
    """All simulated frames, born with the release in ``factory`` (a release package)."""
    return Service(
        "simulator",
        (
            *(sys.executable, "-m", "simulator", "run", "--frames", str(frames), "--trust", str(trust)),
            *("--mqtt", stack.broker.url, "--factory", str(factory)),
            *people.options(),
        ),
        env=ENVIRONMENT,
        cwd=ROOT,
    )
