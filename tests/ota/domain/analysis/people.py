"""A simulated fleet for tests: frames that differ, days that shock everybody, complaints that cluster.

Activity is gamma distributed with a mean of 5 playbacks a day; completion 78 % with an intraclass correlation of 0.10;
power 4.8 W, 0.4 W between frames; complaints 0.3 % of playbacks with a frailty of variance 2.
"""

from dataclasses import dataclass, replace

import numpy as np

from ota.domain.analysis.policy import BREAKAGE, COMPLAINT, COMPLETION, DARK, POWER, Policy
from ota.domain.analysis.policy import MEASURES as ALL
from ota.domain.analysis.table import Arm, Days, FloatArray, Frames, Sums, Table, build

MEASURES = tuple(measure for measure in ALL if measure.name in (COMPLETION, POWER))
POLICY = Policy(measures=MEASURES)


@dataclass(frozen=True, slots=True)
class Effect:
    """What the release does to canaries."""

    completion: float = 0.0
    power: float = 0.0
    complaints: float = 1.0
    works: bool = True


def fleet(
    seed: int, frames: int = 2300, days: int = 10, share: float = 0.25, effect: Effect | None = None
) -> tuple[Frames, Days]:
    """Frames and rows; canaries are offered the release at hour 0, everybody else is a control."""
    effect = effect or Effect()
    random = np.random.default_rng(seed)
    arm = np.where(random.random(frames) < share, int(Arm.CANARY), int(Arm.CONTROL)).astype(np.int64)
    canary = arm == Arm.CANARY
    activity = random.gamma(2.0, 2.5, frames)
    completes = random.beta(0.78 * 9, 0.22 * 9, frames)
    watts = random.normal(4.8, 0.4, frames)
    annoyed = random.gamma(0.5, 2.0, frames) * 0.003
    past_n = random.poisson(activity * 28).astype(np.float64)
    past = {
        COMPLETION: Sums(random.binomial(past_n.astype(int), completes).astype(np.float64), past_n),
        POWER: Sums(watts * past_n + random.normal(0, 0.15, frames) * np.sqrt(past_n), past_n),
    }
    frame = np.repeat(np.arange(frames), days)
    day = np.tile(np.arange(days), frames)
    treated = canary[frame]
    n = random.poisson(activity[frame])
    mood = random.normal(0, 0.02, days)[day]
    done = random.binomial(n, np.clip(completes[frame] + mood + effect.completion * treated, 0, 1))
    power = (watts[frame] + random.normal(0, 0.08, len(frame)) + effect.power * treated) * n
    rate = 1 - (1 - np.clip(annoyed[frame] * np.where(treated, effect.complaints, 1.0), 0, 1)) ** n
    complained = (random.random(len(frame)) < rate).astype(np.float64)
    played = n.astype(np.float64)
    hours = np.where(complained > 0, day * 24.0 + random.random(len(frame)) * 24, np.inf)
    never = np.full(frames, np.inf)
    known = Frames(
        hardware=random.integers(0, 2, frames),
        arm=arm,
        offered_h=np.where(canary, 0.0, np.inf),
        entered_h=np.zeros(frames),
        left_h=never,
        history=past,
        history_complaints=random.binomial(90, 1 - (1 - annoyed) ** activity).astype(np.float64),
        history_days=np.full(frames, 90.0),
        first_h={
            COMPLAINT: hours.reshape(frames, days).min(axis=1),
            BREAKAGE: never,
            DARK: never,
        },
    )
    rows = Days(
        frame=frame,
        day=day,
        playbacks=played,
        under_release=np.where(treated & effect.works, played, 0.0),
        complained=complained,
        sums={COMPLETION: Sums(done.astype(np.float64), played), POWER: Sums(power, played)},
    )
    return known, rows


def table(seed: int, frames: int = 2300, days: int = 10, share: float = 0.25, effect: Effect | None = None) -> Table:
    """The same as a checked table at the end of the last day."""
    known, rows = fleet(seed, frames, days, share, effect)
    return build(known, rows, days * 24.0 - 0.5)


def with_first(of: Table, name: str, hours: FloatArray) -> Table:
    """``of`` with other first events."""
    return replace(of, frames=replace(of.frames, first_h={**of.frames.first_h, name: hours}))
