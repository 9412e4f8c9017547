"""One staged rollout in a simulated world, judged by the product: assignment, table, evidence, verdict, next stage.

Nothing of the decision is implemented here. What is: who plays what (``world``), sums by frame and day as telemetry
makes them, and the clock. A look is taken every 3 hours for at most 28 days; the rollout ends when it is rolled back,
or when the last stage before everybody is promoted and, with a holdback, everybody else was watched against it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.canary.world import Effect, Model, World
from ota.domain import assignment
from ota.domain.analysis import logrank
from ota.domain.analysis.evaluate import evaluate
from ota.domain.analysis.policy import BREAKAGE, COMPLAINT, COMPLETION, DARK, POWER, Policy, Stage
from ota.domain.analysis.table import HOURS, Arm, Days, FloatArray, Frames, IntArray, Sums, Table, build
from ota.domain.analysis.verdict import Decision, Evidence, Verdict, judge

LOOK_H = 3
INSTALL_H = 1.0
"""From the offer until a canary that breaks has broken."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a rollout ended: ``decision`` HOLD means that nothing was decided. ``opened_h`` are the hours at which stages
    opened that leave somebody to compare with, ``everybody_h`` the one from which everybody (but the holdback) might
    have the release, ``metrics`` what a rollback was about."""

    decision: Decision
    hours: float
    opened_h: tuple[float, ...]
    everybody_h: float | None
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """What was played since the last look, one entry for each playback that was heard of; ``complaints`` has one for
    each frame, ``said`` the hour of its first one."""

    frame: IntArray
    hour: IntArray
    done: NDArray[np.bool_]
    logged: dict[str, FloatArray]
    complaints: FloatArray
    said: FloatArray


class Ledger:
    """What telemetry has brought of one rollout so far: sums by frame and day, first events."""

    def __init__(
        self,
        world: World,
        effect: Effect,
        shares: Sequence[float],
        salt: str,
        policy: Policy,
        holdback: float = 0.0,
    ) -> None:
        n = world.model.frames
        self.world, self.effect, self.policy = world, effect, policy
        self.number = np.array([assignment.household_number(salt, f"household-{i}") for i in range(n)])
        reservoir = [assignment.arm(u, shares, holdback) != "canary" for u in self.number.tolist()]
        self.arm = np.where(reservoir, int(Arm.CONTROL), int(Arm.NEITHER)).astype(np.int64)
        self.offered_h = np.full(n, np.inf)
        hit = world.random.random(n) < effect.share
        self._drop = np.where(hit, effect.completion / effect.share, 0.0)
        self._fate = world.random.random(n)
        shape = (n, int(policy.last_day) + 1)
        self.played, self.released = np.zeros(shape), np.zeros(shape)
        self.complaints = np.zeros(shape)
        """Playbacks that were complained about."""
        self.sums = {name: np.zeros(shape) for name in (COMPLETION, *world.logs)}
        self.power_squares = np.zeros(shape)  # of no use to us, but to others
        never = np.full(n, np.inf)
        self.first_h = {COMPLAINT: never.copy(), BREAKAGE: world.breaks_h.copy(), DARK: never.copy()}
        self._gone_h = never.copy()  # silenced for good by the release
        self._owed = np.zeros(n)  # complaints that incidents still bring
        self.now_h = 0
        self._open_day(0)

    def offer(self, share: float) -> None:
        """Offer the release, now, to everybody of the stage who does not have it yet."""
        new = np.array([assignment.exposed(u, share) for u in self.number.tolist()]) & ~np.isfinite(self.offered_h)
        self.arm[new] = int(Arm.CANARY)
        self.offered_h[new] = self.now_h
        day = self.now_h // 24
        # What a frame did earlier on the day of its offer belongs to no arm.
        for sums in (self.played, self.released, self.complaints, self.power_squares, *self.sums.values()):
            sums[new, day] = 0.0
        soon = self.now_h + INSTALL_H
        first = self.first_h[BREAKAGE]
        broken = new & (self._fate < self.effect.broken)
        first[broken] = np.minimum(first[broken], soon)
        self._gone_h[new & (self._fate < self.effect.silent)] = soon

    def _open_day(self, day: int) -> None:
        self._day = self.world.playbacks(day)
        self._chance = self.world.completes(self.world.shocks())

    def advance(self, hours: int) -> None:
        """Let people play for so many hours, within one day."""
        day, effect, n = self.now_h // 24, self.effect, self.world.model.frames
        bounds = np.searchsorted(self._day.hour, (self.now_h, self.now_h + hours))
        part = np.arange(bounds[0], bounds[1])
        part = part[self._gone_h[self._day.frame[part]] > self._day.hour[part]]
        frame, hour = self._day.frame[part], self._day.hour[part]
        has = np.isfinite(self.offered_h)[frame] & (self._fate >= effect.broken)[frame]
        done = self._day.done[part] < np.clip(self._chance[frame] + self._drop[frame] * has, 0.0, 1.0)
        self.played[:, day] += np.bincount(frame, minlength=n)
        self.released[:, day] += np.bincount(frame, has, n)
        self.sums[COMPLETION][:, day] += np.bincount(frame, done, n)
        logged = {name: values[part] for name, values in self._day.logged.items()}
        logged[POWER] = logged[POWER] + effect.power * has
        for name, value in logged.items():
            self.sums[name][:, day] += np.bincount(frame, value, n)
            if name == POWER:
                self.power_squares[:, day] += np.bincount(frame, value**2, n)
        begun = self._day.incident[part] < self.world.incidents[frame] * np.where(has, effect.complaints, 1.0)
        complaints, said = self._complain(frame, hour, begun, day)
        self.slot = Slot(frame, hour, done, logged, complaints, said)
        self.now_h += hours
        self._go_dark()
        if self.now_h % 24 == 0:
            self._open_day(day + 1)

    def _complain(
        self, frame: IntArray, hour: IntArray, begun: NDArray[np.bool_], day: int
    ) -> tuple[FloatArray, FloatArray]:
        """Complaints at the playbacks from an incident on, as many as it brings: how many of each frame, and when the
        first was."""
        n = self.world.model.frames
        start = np.where(self._owed > 0, 0, len(frame))
        np.minimum.at(start, frame[begun], np.flatnonzero(begun))
        if begun.any():
            self._owed += self.world.complaints(np.bincount(frame[begun], minlength=n))
        now = np.flatnonzero(np.arange(len(frame)) >= start[frame])
        count = np.minimum(np.bincount(frame[now], minlength=n), self._owed)
        self.complaints[:, day] += count
        self._owed -= count
        said = np.full(n, np.inf)
        np.minimum.at(said, frame[now], hour[now] + 0.5)
        self.first_h[COMPLAINT] = np.minimum(self.first_h[COMPLAINT], said)
        return count, said

    def _go_dark(self) -> None:
        silent, model = self.world.silent_h, self.world.model
        away = (silent <= self.now_h) & (self.now_h < silent + model.silence_h)
        self.contact_h = np.minimum(np.where(away, silent, float(self.now_h)), self._gone_h)
        self.first_h[DARK] = logrank.first_dark(self.contact_h, self.first_h[DARK], float(self.now_h), self.policy)

    def table(self) -> Table:
        """The frame-day table of this hour, as the product sees it."""
        n, world = self.world.model.frames, self.world
        days = min((self.now_h - 1) // 24, self.played.shape[1] - 1) + 1
        played = self.played[:, :days].ravel()
        rows = np.flatnonzero(played)
        never = np.full(n, np.inf)
        frames = Frames(
            hardware=world.hardware,
            arm=self.arm,
            offered_h=self.offered_h,
            entered_h=np.zeros(n),
            left_h=never,
            history=world.history,
            history_complaints=world.history_complaints,
            history_days=np.full(n, float(world.model.history_days)),
            first_h=self.first_h,
        )
        count = played[rows]
        measures = {measure.name for measure in self.policy.measures}
        table_days = Days(
            frame=rows // days,
            day=rows % days,
            playbacks=count,
            under_release=self.released[:, :days].ravel()[rows],
            complained=np.minimum(1.0, self.complaints[:, :days].ravel()[rows]),
            sums={
                name: Sums(total[:, :days].ravel()[rows], count)
                for name, total in self.sums.items()
                if name in measures
            },
        )
        return build(frames, table_days, float(self.now_h))


@dataclass(frozen=True, slots=True)
class Look:
    """One look, for whoever watches a rollout."""

    ledger: Ledger
    stages: int
    """How many are open."""
    table: Table
    stage: Stage
    in_stage_h: float
    evidence: Evidence
    verdict: Verdict


def run(
    model: Model,
    effect: Effect,
    stages: Sequence[Stage],
    policy: Policy,
    seed: Sequence[int],
    watch: Callable[[Look], bool] | None = None,
    look_h: int = LOOK_H,
    holdback: float = 0.0,
) -> Result:
    """One rollout in a fleet of its own, looked at every ``look_h`` hours (a part of a day). ``watch`` sees every look,
    and says whether a rollback is overruled. A ``holdback`` is watched against for the last stage's dwell."""
    random = np.random.default_rng(seed)
    salt = random.bytes(8).hex()
    ledger = Ledger(World(model, random), effect, [stage.share for stage in stages], salt, policy, holdback)
    opened: list[float] = []
    everybody_h: float | None = None
    compared = [stage for stage in stages if stage.share < 1.0]
    last = len(compared)
    if holdback:
        compared.append(replace(stages[-1], share=1.0 - holdback))
    for stage in compared:
        ledger.offer(stage.share)
        opened.append(float(ledger.now_h))
        while True:
            ledger.advance(look_h)
            table, in_stage_h = ledger.table(), ledger.now_h - opened[-1]
            evidence = evaluate(table, stage, 0.0, policy)
            verdict = judge(evidence, stage, in_stage_h, policy)
            overruled = watch is not None and watch(
                Look(ledger, len(opened), table, stage, in_stage_h, evidence, verdict)
            )
            if verdict.decision is Decision.ROLLBACK and not overruled:
                return Result(verdict.decision, float(ledger.now_h), tuple(opened), everybody_h, verdict.metrics)
            if verdict.decision is Decision.PROMOTE:
                break
            if ledger.now_h >= policy.last_day * HOURS:
                return Result(verdict.decision, float(ledger.now_h), tuple(opened), everybody_h, verdict.metrics)
        if len(opened) == last:
            everybody_h = float(ledger.now_h)
    return Result(Decision.PROMOTE, float(ledger.now_h), tuple(opened), everybody_h, ())
