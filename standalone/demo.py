"""The story ``make demo`` plays: a LoRA fix on its way from the command line to frames that then speak better.

Told through ``framectl``, the REST API behind it, and the household's page of the full agent; nothing here reaches into
the system. Every figure in the last line comes from the API.
"""

import asyncio
import json
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from standalone.ctl import Framectl
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
from standalone.processes import ServiceError, free_port
from standalone.stack import ROOT, USER, Stack
from standalone.supervisor import Supervisor, supervise

MODEL = ROOT / "reference_model"
BUNDLE = MODEL / "artifacts" / "talking-portrait-1.0.bundle"
ADAPTER = MODEL / "artifacts" / "mandarin.adapter"
PHOTO = MODEL / "assets" / "portrait.png"
VOICE = MODEL / "assets" / "voice-zh.wav"

NAME = "talking-portrait"
GROUP = "mandarin"
STAGES = "5,25,100"
# 200 simulated frames; with the full agent 80 frames speak Mandarin.
BATCHES = [Batch("zh", 79, "zh"), Batch("en", 71, "en"), Batch("fr", 50, "fr")]
PEOPLE = People(day_seconds=10.0)
DAYS_BEFORE = 6
"""Simulated days to live with 1.0 before the fix, and with 1.1 after it."""
DAYS_AFTER = 6
PATIENCE_S = 120.0
KEPT = ("run", "log")
"""The supervisor's own folders: it holds a lock there while the rest is emptied."""


def say(text: str = "") -> None:
    """One line of the story."""
    print(text, flush=True)


def run(var: Path, *, once: bool) -> int:
    """Play the story below ``var`` (emptied first); stays up until Ctrl-C unless ``once``. Returns the exit status."""

    async def story(supervisor: Supervisor) -> int:
        _empty(var)
        await Demo(Stack.below(var), supervisor).play()
        if once:
            return 0
        say("\nEverything stays up until Ctrl-C.")
        return await supervisor.wait()

    return supervise(var, story)


@dataclass
class Demo:
    """One telling."""

    stack: Stack
    supervisor: Supervisor
    ctl: Framectl = field(init=False)
    page: HouseholdPage = field(init=False)
    simulated: Path = field(init=False)
    """The simulated frames' folders."""
    agent: Path = field(init=False)
    """The full agent's folder."""

    @property
    def offline(self) -> Path:
        """The model engineer's offline folder; the server never sees it."""
        return self.stack.var / "offline"

    async def play(self) -> None:
        """From nothing to the last line."""
        began = time.monotonic()
        await self._services()
        await self._birth()
        before = await self._base_release()
        say("\n=== The household plays a Mandarin voice on the full agent, before ...")
        videos = [await self._film("before.mp4")]
        await self._live(DAYS_BEFORE, "with 1.0")
        rollout = await self._fix()
        say("\n=== ... and after")
        videos.append(await self._film("after.mp4"))
        videos.append(await self._compare())
        await self._live(DAYS_AFTER, "with 1.1")
        rollout = await self.ctl("rollout", "watch", str(rollout["id"]), quiet=True)
        _print_metrics(rollout)
        summary = await self._summary(before, await self._frames(), rollout, videos)
        say(f"\nConsole: {self.stack.url}/  (user {USER}, password {self.stack.password})")
        say(f"The story took {time.monotonic() - began:.0f} s.")
        say(f"DEMO {json.dumps(summary)}")

    async def _services(self) -> None:
        say("=== Starting PostgreSQL, broker, web server, birth endpoint, bridge and Celery on 127.0.0.1")
        stack, supervisor = self.stack, self.supervisor
        await stack.start_database(supervisor)
        self.simulated = await enrol_simulated(stack, supervisor, BATCHES)
        await stack.start_services(supervisor)
        self.ctl = Framectl(stack.url, await stack.api_token(supervisor))
        self.agent = await claim_agent(stack, supervisor, self.ctl, "zh")
        say("The full agent's frame was born: it made its key, and its label's claim token became its certificate.")
        say(f"Console: {stack.url}/  (user {USER}, password {stack.password})")

    async def _birth(self) -> None:
        """Keys, the signed base release, and frames that trust them."""
        say("\n=== Offline keys, the repository, and talking-portrait 1.0")
        base = self.stack.var / f"{NAME}-1.0.zip"
        await self.ctl("keys", "create", "--out", str(self.offline))
        await self.ctl("repository", "init", "--offline", str(self.offline))
        what = ("--name", NAME, "--version", "1.0", "--base-model", str(BUNDLE))
        offline = ("--offline", str(self.offline))
        await self.ctl("release", "sign", *offline, *what, "--out", str(base))
        await self.ctl("release", "push", str(base))
        trust = self.stack.var / "trust"
        copy_anchors(self.offline, trust)
        copy_anchors(self.offline, self.agent / "trust")
        port = free_port()
        self.page = HouseholdPage(port)
        media = [MODEL / "assets", self.stack.var]
        await self.supervisor.start(agent_service(self.stack, self.agent, media, port))
        await self.supervisor.start(simulator_service(self.stack, self.simulated, trust, base, PEOPLE))
        await self.page.wait_ready()

    async def _base_release(self) -> dict[str, dict[str, Any]]:
        """All frames run 1.0; returns them."""
        say("\n=== talking-portrait 1.0 to all frames (the simulated ones were born with it)")
        await self.ctl("groups", "create", "everyone", "--query", "")
        await self.ctl("groups", "create", GROUP, "--query", "locale=zh")
        await self._roll_out("1.0", "everyone", "100", "the base release")
        frames = await self._frames()
        behind = [name for name, frame in frames.items() if frame["release_name"] != f"{NAME} 1.0"]
        if behind:
            raise ServiceError(f"{len(behind)} frames do not run {NAME} 1.0, {behind[0]} among them.")
        return frames

    async def _fix(self) -> dict[str, Any]:
        """The Mandarin adapter, signed, pushed and rolled out in stages; returns the ended rollout."""
        say("\n=== The Mandarin adapter becomes release 1.1")
        package = self.stack.var / f"{NAME}-1.1.zip"
        what = ("--name", NAME, "--version", "1.1", "--base-release", f"{NAME} 1.0", "--adapter", str(ADAPTER))
        notes = ("--notes", "Lips follow Mandarin voices.")
        await self.ctl("release", "sign", "--offline", str(self.offline), *what, *notes, "--out", str(package))
        await self.ctl("release", "push", str(package))
        say(f"\n=== {NAME} 1.1 to the FrameGroup {GROUP}, {STAGES} %")
        return await self._roll_out("1.1", GROUP, STAGES, "Mandarin households complain about lips")

    async def _roll_out(self, version: str, group: str, stages: str, reason: str) -> dict[str, Any]:
        what = ("--release", f"{NAME} {version}", "--group", group, "--stages", stages, "--reason", reason)
        blank = ("--with-base-model",) if version == "1.0" else ()  # the full agent has no base model yet
        rollout = await self.ctl("rollout", "start", *what, *blank)
        say(f"{self.stack.url}/rollouts/{rollout['id']}/")
        watch = self.ctl("rollout", "watch", str(rollout["id"]), "--timeout", str(PATIENCE_S))
        watching = asyncio.ensure_future(watch)
        try:
            # The full agent's household: a release is committed once it has played a few films without a fault.
            films = await self.page.prove(PHOTO, VOICE, self.stack.var / "probation.mp4", watching)
            ended: dict[str, Any] = await watching
        finally:
            watching.cancel()
        say(f"The full agent's household played {films} films while {version} was on probation there.")
        if ended["state"] != "succeeded":
            raise ServiceError(f"The rollout of {version} ended as {ended['state']}: {ended.get('reason', '')}")
        return ended

    async def _frames(self) -> dict[str, dict[str, Any]]:
        listed = await self.ctl("frames", "--limit", "1000", quiet=True)
        return {frame["id"]: frame for frame in listed}

    async def _film(self, name: str) -> str:
        out = self.stack.var / name
        played = await self.page.play(PHOTO, VOICE, out)
        figures = ", ".join(f"{key} {played[key]:.0f}" for key in ("first_frame_ms", "fps") if key in played)
        say(f"{_shown(out)}: {figures}")
        return _shown(out)

    async def _compare(self) -> str:
        out = self.stack.var / "compare.mp4"
        sides = ("--left", str(self.stack.var / "before.mp4"), "--right", str(self.stack.var / "after.mp4"))
        labels = ("--left-label", "1.0", "--right-label", "1.1 + Mandarin")
        argv = [sys.executable, "-m", "device_agent", "compare", *sides, *labels, "--out", str(out)]
        await self.supervisor.run_once("compare", argv, cwd=ROOT)
        say(_shown(out))
        return _shown(out)

    async def _live(self, days: int, how: str) -> None:
        say(f"\n=== Simulated people live {days} days {how} ({days * PEOPLE.day_seconds:.0f} s)")
        await asyncio.sleep(days * PEOPLE.day_seconds)

    async def _summary(
        self,
        before: dict[str, dict[str, Any]],
        after: dict[str, dict[str, Any]],
        rollout: dict[str, Any],
        videos: list[str],
    ) -> dict[str, Any]:
        group = {frame["id"] for frame in await self.ctl("frames", "--group", GROUP, "--limit", "1000", quiet=True)}
        agent = next(name for name in after if not after[name]["simulated"])
        old, new = (_lips(frames[agent]) for frames in (before, after))
        return {
            "frames": len(after),
            "group_frames": len(group),
            "group_on_1_1": sum(after[name]["release_name"] == f"{NAME} 1.1" for name in group),
            "others_changed": sum(_runs(after[name]) != _runs(before[name]) for name in after if name not in group),
            "stages": [
                {"share": stage["share"], "seconds": _seconds(stage["opened_at"], stage["completed_at"])}
                for stage in rollout["stages"]
            ],
            "lip_mm": {
                "mandarin_before": old["mandarin"]["lip_mm"],
                "mandarin_after": new["mandarin"]["lip_mm"],
                "base_before": old["base"]["lip_mm"],
                "base_after": new["base"]["lip_mm"],
                "mean_pose": new["mandarin"]["mean_pose_mm"],
            },
            "videos": videos,
        }


def _runs(frame: dict[str, Any]) -> tuple[Any, ...]:
    reported = frame["reported"] or {}
    return frame["release_name"], reported.get("slot")


def _lips(frame: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {entry["segment"]: entry for entry in frame["reported"]["lip_errors"]}


def _seconds(opened: str, completed: str) -> float:
    return round((datetime.fromisoformat(completed) - datetime.fromisoformat(opened)).total_seconds(), 1)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _print_metrics(rollout: dict[str, Any]) -> None:
    say("\n=== What people experienced (simulated people), by arm and release")
    say("  arm      release               frames  playbacks  completion  complaints/1000  power")
    for row in rollout["metrics"]:
        share, complaints, power = row["completion_rate"], row["complaint_rate"], row["power_w"]
        say(
            f"  {row['arm']:<8} {row['release_name']:<20} {row['frames']:>7} {row['playbacks']:>10}"
            f" {_figure(share, 100, ' %'):>11} {_figure(complaints, 1000, ''):>16} {_figure(power, 1, ' W', 2):>7}"
        )


def _figure(value: float | None, factor: float, unit: str, digits: int = 1) -> str:
    return "-" if value is None else f"{value * factor:.{digits}f}{unit}"


def _empty(var: Path) -> None:
    """Begin anew. What an earlier telling left belongs to us, or to the user PostgreSQL ran as."""
    for left in sorted(var.iterdir()) if var.exists() else []:
        if left.name in KEPT:
            continue
        try:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        except PermissionError:
            raise ServiceError(f"{left} belongs to another user: remove it and try again.") from None
