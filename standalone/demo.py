"""The story ``make demo`` plays, in two acts: a LoRA fix that people are better off with, promoted by evidence, and one
that hurts other people's lips, rolled back by evidence. Nobody helps the engine.

Told through ``framectl``, the REST API behind it, and the household's page of the full agent; nothing here reaches into
the system. Every figure in the last line comes from the API. Days of simulated people pass in seconds; what they do
depends on the lip errors that were really measured.
"""

import asyncio
import json
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from standalone.acts import decided
from standalone.ctl import Api, Framectl
from standalone.films import Films
from standalone.frames import (
    Batch,
    People,
    agent_service,
    claim_agent,
    copy_anchors,
    enrol_simulated,
    load_history,
    people_clock,
    simulator_service,
)
from standalone.household import HouseholdPage
from standalone.processes import ServiceError, free_port
from standalone.stack import ROOT, USER, Stack
from standalone.summary import bad_act, expected_of, figures_of, good_act, previewed, said
from standalone.supervisor import Supervisor, supervise

MODEL = ROOT / "reference_model"
BUNDLE = MODEL / "artifacts" / "talking-portrait-1.0.bundle"
GOOD = MODEL / "artifacts" / "mandarin.adapter"
BAD = MODEL / "artifacts" / "whisper.adapter"
"""Made for people who whisper. A frame has one adapter, so whoever gets it in place of the Mandarin fix loses that. It
stays within every limit of the bundle's trial, so no frame refuses it."""
PHOTO = MODEL / "assets" / "portrait.png"
VOICE = MODEL / "assets" / "voice-zh.wav"

NAME = "talking-portrait"
GROUP = "mandarin"
EVERYONE = "everyone"
BLANK = "blank"
POLICY = ("--policy", "small-fleet", "--holdback", "0", "--timeout-h", "2000", "--retry", "trial_failed=3")
"""Downloads and trials take real time: a frame that is at it for minutes has not failed, though days of people pass.
All share this machine's processor, which may be too busy for a trial that times the model."""
BATCHES = [Batch("zh", 1_150, "zh"), Batch("en", 700, "en"), Batch("fr", 450, "fr")]
"""2,300 simulated frames, as many as are in the field; with the full agent 1,151 frames speak Mandarin."""
DAY_SECONDS = 18.0
DAYS_AGO = 60
"""People's first day with the backend: it must not catch up with real time before the story ends."""
HISTORY_DAYS = 28
STANDS_MS = 45_000
"""Until then people's clock stands: services start and frames connect."""
DAYS_BEFORE = 1.0
"""People's days with 1.0, before the fix."""
PATIENCE_S = 240.0
"""For one rollout."""
FRAMES_EVERY_S = 6.0
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
    api: Api = field(init=False)
    page: HouseholdPage = field(init=False)
    simulated: Path = field(init=False)
    """The simulated frames' folders."""
    agent: Path = field(init=False)
    """The full agent's folder."""
    people: People = field(init=False)
    expected: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Version -> what the preview expected of its rollout."""

    @property
    def offline(self) -> Path:
        """The model engineer's offline folder; the server never sees it."""
        return self.stack.var / "offline"

    async def play(self) -> None:
        """From nothing to the last line."""
        began = time.monotonic()
        await self._services()
        history = await self._birth()
        before = await self._base_release()
        say(f"\n=== {await history}")
        say("\n=== The household plays a Mandarin voice on the full agent, before ...")
        films = Films(self.page, self.supervisor, self.stack.var, PHOTO, VOICE)
        say(await films.play("before.mp4"))
        await self._live(DAYS_BEFORE)
        say("\n=== Which households need a fix? (framectl segments)")
        say(await self.ctl.text("segments", "--days", str(HISTORY_DAYS)))
        good = await self._good()
        after = await self._frames()
        say("\n=== ... and after")
        say(await films.play("after.mp4"))
        say(await films.compare("compare.mp4", ("before.mp4", "1.0"), ("after.mp4", "1.1 + Mandarin")))
        bad, worst = await self._bad()
        told = good_act(before, after, await self._group(), good, DAY_SECONDS)
        told |= bad_act(after, await self._frames(), bad, worst, DAY_SECONDS)
        say(f"\n{said('1.1', told['good'])}\n{said('1.2', told['bad'])}")
        summary = {
            "frames": len(after),
            "simulated_frames": sum(frame["simulated"] for frame in after.values()),
            "hours_simulated": {act: told[act]["hours_simulated"] for act in ("good", "bad")},
            **told,
            "expected": self.expected,
            "videos": [films.shown(name) for name in ("before.mp4", "after.mp4", "compare.mp4")],
            "seconds": round(time.monotonic() - began, 1),
        }
        say(f"\nConsole: {self.stack.url}/  (user {USER}, password {self.stack.password})")
        say(f"The story took {time.monotonic() - began:.0f} s.")
        say(f"DEMO {json.dumps(summary)}")

    # --- before the acts ----------------------------------------------------------------------------------------------

    async def _services(self) -> None:
        say("=== Starting PostgreSQL, broker, web server, birth endpoint, bridge and Celery on 127.0.0.1")
        supervisor = self.supervisor
        await self.stack.start_database(supervisor)
        clock = people_clock(time.time_ns() // 1_000_000 + STANDS_MS, DAYS_AGO, DAY_SECONDS)
        self.stack = stack = replace(self.stack, people_clock=clock)
        self.people = People(clock=clock)
        enrolling = asyncio.ensure_future(enrol_simulated(stack, supervisor, BATCHES))
        try:
            await stack.start_services(supervisor)
            self.simulated = await enrolling
        finally:
            enrolling.cancel()
        token = await stack.api_token(supervisor)
        self.ctl, self.api = Framectl(stack.url, token), Api(stack.url, token)
        self.agent = await claim_agent(stack, supervisor, self.ctl, "zh")
        say("The full agent's frame was born: it made its key, and its label's claim token became its certificate.")
        say(f"Console: {stack.url}/  (user {USER}, password {stack.password})")
        say(f"A day of simulated people takes {DAY_SECONDS:g} s.")

    async def _birth(self) -> asyncio.Task[str]:
        """Keys, the signed base release, and frames that trust them; what becomes of their history."""
        say("\n=== Offline keys, the repository, and talking-portrait 1.0")
        await self.ctl("keys", "create", "--out", str(self.offline))
        await self.ctl("repository", "init", "--offline", str(self.offline))
        base = await self._release("1.0", "--base-model", str(BUNDLE))
        trust = self.stack.var / "trust"
        copy_anchors(self.offline, trust)
        copy_anchors(self.offline, self.agent / "trust")
        port = free_port()
        self.page = HouseholdPage(port)
        media = [MODEL / "assets", self.stack.var]
        await self.supervisor.start(agent_service(self.stack, self.agent, media, port))
        await self.supervisor.start(simulator_service(self.stack, self.simulated, trust, base, self.people))
        loading = load_history(self.stack, self.supervisor, self.simulated, base, self.people, HISTORY_DAYS)
        history = asyncio.create_task(loading)
        await self.page.wait_ready()
        return history

    async def _base_release(self) -> dict[str, dict[str, Any]]:
        """All frames run 1.0; returns them."""
        say("\n=== talking-portrait 1.0 to the full agent, which is blank (the simulated frames were born with it)")
        for name, query in ((BLANK, "simulated=false"), (EVERYONE, ""), (GROUP, "locale=zh")):
            await self.ctl("groups", "create", name, "--query", query)
        what = ("--stages", "100", "--with-base-model")  # the full agent has no base model yet
        ended = await self._roll_out("1.0", BLANK, *what, reason="the base release")
        if ended["state"] != "succeeded":
            raise ServiceError(f"The rollout of 1.0 ended as {ended['state']}: {ended.get('reason', '')}")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            frames = await self._frames()
            behind = [name for name, frame in frames.items() if frame["release_name"] != f"{NAME} 1.0"]
            if not behind:
                return frames
            if time.monotonic() > deadline:
                raise ServiceError(f"{len(behind)} frames do not run {NAME} 1.0, {behind[0]} among them.")
            await asyncio.sleep(FRAMES_EVERY_S)

    # --- the acts -----------------------------------------------------------------------------------------------------

    async def _good(self) -> dict[str, Any]:
        """The Mandarin fix, gated by evidence; returns the ended rollout."""
        say("\n=== First act: the Mandarin adapter becomes release 1.1")
        notes = ("--notes", "Lips follow Mandarin voices.")
        await self._release("1.1", *self._on_base(GOOD), *notes)
        say(f"\n=== {NAME} 1.1 to the FrameGroup {GROUP}: 10 %, 25 %, 100 %, each gated by evidence")
        rollout = await self._roll_out("1.1", GROUP, *POLICY, reason="Mandarin households complain about lips")
        if rollout["state"] != "succeeded":
            raise ServiceError(f"The rollout of 1.1 ended as {rollout['state']}: {rollout['reason']}")
        figures_of(rollout, say)
        return rollout

    async def _bad(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A fix for others, offered to everybody; the ended rollout, and what frames measured of the release."""
        say("\n=== Second act: a fix for people who whisper becomes release 1.2, without the Mandarin fix in it")
        notes = ("--notes", "Lips follow whispering voices.")
        await self._release("1.2", *self._on_base(BAD), *notes)
        say(f"\n=== {NAME} 1.2 to the FrameGroup {EVERYONE}: 10 %, 25 %, 100 %, each gated by evidence")
        looking = asyncio.create_task(self._lips_under("1.2"))
        try:
            rollout = await self._roll_out("1.2", EVERYONE, *POLICY, reason="People who whisper complain about lips")
        finally:
            looking.cancel()
        if not looking.done():
            raise ServiceError(f"No frame ran 1.2 before its rollout ended as {rollout['state']}: {rollout['reason']}")
        worst = looking.result()
        if rollout["state"] != "rolled_back":
            raise ServiceError(f"The rollout of 1.2 ended as {rollout['state']}, although it hurts people's lips.")
        figures_of(rollout, say)
        return rollout, worst

    def _on_base(self, adapter: Path) -> tuple[str, ...]:
        return ("--base-release", f"{NAME} 1.0", "--adapter", str(adapter))

    async def _release(self, version: str, *what: str) -> Path:
        """Sign and push a release; its package."""
        package = self.stack.var / f"{NAME}-{version}.zip"
        named = ("--offline", str(self.offline), "--name", NAME, "--version", version)
        await self.ctl("release", "sign", *named, *what, "--out", str(package))
        await self.ctl("release", "push", str(package))
        return package

    async def _roll_out(self, version: str, group: str, *plan: str, reason: str) -> dict[str, Any]:
        """Start a rollout, let the full agent's household prove what comes to it, and wait for the end."""
        what = ("--release", f"{NAME} {version}", "--group", group, *plan, "--reason", reason)
        if "--policy" in plan:
            preview = await self.ctl("rollout", "preview", *what[:-2], quiet=True)
            self.expected[version] = expected_of(preview)
            say(previewed(preview))
        rollout = await self.ctl("rollout", "start", *what)
        say(f"{self.stack.url}/rollouts/{rollout['id']}/")
        watching = asyncio.ensure_future(decided(self.api, rollout["id"], PATIENCE_S, say))
        try:
            # A release is committed on the full agent once its household has seen a few films without a fault.
            films = await self.page.prove(PHOTO, VOICE, self.stack.var / "probation.mp4", watching)
            ended = await watching
        finally:
            watching.cancel()
        if films:
            say(f"The full agent's household played {films} films while {version} was on probation there.")
        return ended

    async def _lips_under(self, version: str) -> dict[str, Any]:
        """What the first frame that runs the version measured on the golden clips."""
        while True:
            await asyncio.sleep(FRAMES_EVERY_S)
            for frame in (await self._frames()).values():
                if frame["release_name"] == f"{NAME} {version}":
                    return frame

    # --- what is read and shown ---------------------------------------------------------------------------------------

    async def _frames(self) -> dict[str, dict[str, Any]]:
        listed = await self.ctl("frames", "--limit", "10000", quiet=True)
        return {frame["id"]: frame for frame in listed}

    async def _group(self) -> set[str]:
        listed = await self.ctl("frames", "--group", GROUP, "--limit", "10000", quiet=True)
        return {frame["id"] for frame in listed}

    async def _live(self, days: float) -> None:
        """Until people have lived so many days by the clock that the backend shares."""
        clock = self.people.clock
        if clock is None:
            return
        until = clock.began_ms + days * clock.day_seconds * 1000
        left = (until - time.time_ns() // 1_000_000) / 1000
        if left > 0:
            say(f"\n=== Simulated people live {days:g} days with 1.0 (another {left:.0f} s)")
            await asyncio.sleep(left)


def _empty(var: Path) -> None:
    """Begin anew. What an earlier telling left belongs to us, or to the user PostgreSQL ran as."""
    for left in sorted(var.iterdir()) if var.exists() else []:
        if left.name in KEPT:
            continue
        try:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        except PermissionError:
            raise ServiceError(f"{left} belongs to another user: remove it and try again.") from None
