"""Before a rollout starts: when will it be decided, what holds it up, and is the group large enough at all?

    fleet   = learn(past, policy)                     what the fleet's own past says                         power
    preview = preview(fleet, stages, policy)          hours to a verdict, for a harmless release and for harmful ones
    stages  = recommend(fleet, policy)                the stages that decide in time; None: ask a person at each

    median, high  quantiles 1/2 and 9/10 over ``Policy.preview_runs`` rehearsals (``rehearsal``), infinity as None
    enough        share of rehearsals of a harmless release promoted by the last day >= ``Policy.preview_decided``

Nothing is shown by a preview: it says what evidence to expect, and a rollout is judged by the evidence itself. The same
fleet, stages and seed give the same preview. Medians are right to within a third of those of rollouts simulated person
by person, for 200 to 10,000 frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np

from ota.domain.analysis.policy import COMPLAINT, COMPLETION, POWER, SMALL_FLEET_STAGES, STAGES, Policy, Stage
from ota.domain.analysis.power import Fleet
from ota.domain.analysis.rehearsal import Rehearsed, rehearse
from ota.domain.analysis.table import FloatArray

CLEAR_HARM = ((COMPLETION, -0.04), (POWER, 0.2), (COMPLAINT, 3.0))
"""Releases that nobody wants: four points fewer watched to the end, 0.2 W more, three times the complaints."""
DWELL = "dwell"
"""Stands among the metrics for a stage that waits for nothing but its dwell."""


class Shortage(StrEnum):
    """Why there is no verdict to be expected."""

    TOO_SMALL = "too_small"
    """Too few frames, or too quiet ones: most harmless releases would still be undecided on the last day."""
    NO_HISTORY = "no_history"
    """A stage asks for a metric of which the past knows nothing."""
    NO_CONTROL = "no_control"
    """No stage leaves anybody to compare with."""


SENTENCES: dict[Shortage, str] = {
    Shortage.TOO_SMALL: (
        "{frames} frames are too few for these margins: of harmless releases only {percent} % would be promoted within "
        "{days} days, {metric} taking longest; allow wider margins, or let a person decide at each stage."
    ),
    Shortage.NO_HISTORY: (
        "The past of this group says nothing about {metric}: wait for its telemetry, or leave the margin out."
    ),
    Shortage.NO_CONTROL: "No stage leaves anybody to compare with: begin with a smaller share.",
}
"""For people, in English: whoever speaks another language translates them by code. Placeholders are filled from
``Preview.values``."""


@dataclass(frozen=True, slots=True)
class StageForecast:
    """One stage, for a harmless release. Hours it stays open, None for longer than the rollout lasts; ``bottleneck`` is
    the metric that is shown last, ``exposure`` or ``dwell``."""

    share: float
    canaries: int
    hours_median: float | None
    hours_high: float | None
    bottleneck: str


@dataclass(frozen=True, slots=True)
class HarmForecast:
    """A clearly harmful release: share of rehearsals in which it is rolled back, and after how many hours."""

    metric: str
    effect: float
    rolled_back: float
    hours_median: float | None
    hours_high: float | None


@dataclass(frozen=True, slots=True)
class Preview:
    """Hours count from the start; ``promoted`` and ``rolled_back`` are shares of rehearsals of a harmless release."""

    frames: int
    stages: tuple[StageForecast, ...]
    hours_median: float | None
    hours_high: float | None
    promoted: float
    rolled_back: float
    harms: tuple[HarmForecast, ...]
    shortage: Shortage | None
    values: tuple[tuple[str, str | int], ...] = ()
    """What the shortage's sentence is about."""

    @property
    def enough(self) -> bool:
        """Whether the group is large enough for a verdict in time."""
        return self.shortage is None

    @property
    def reason(self) -> str:
        """The shortage in one English sentence; empty when there is none."""
        return "" if self.shortage is None else SENTENCES[self.shortage].format(**dict(self.values))


def preview(
    fleet: Fleet,
    stages: Sequence[Stage],
    policy: Policy,
    seed: int = 0,
    harms: Sequence[tuple[str, float]] = CLEAR_HARM,
) -> Preview:
    """What to expect of a rollout to ``fleet`` through ``stages``. ``harms`` are effects by metric, in the measure's
    unit, complaints as a ratio; those that the fleet or the policy does not have are left out."""
    shares = [stage.share for stage in stages]
    if not shares or any(later <= former for former, later in pairwise(shares)):
        raise ValueError("Stages have ascending shares, such as 0.05, 0.25, 1.0.")
    tested = [stage for stage in stages if stage.share < 1]
    if not tested or not len(fleet):
        return _unknown(fleet, Shortage.NO_CONTROL, ())
    known = {*fleet.measures, COMPLAINT} & set(policy.weights())
    for stage in tested:
        for name in stage.margins:
            if name not in known:
                return _unknown(fleet, Shortage.NO_HISTORY, (("metric", name),))
    found = rehearse(fleet, tested, policy, {}, policy.preview_runs, seed)
    forecasts = tuple(_stage(number, stage, found, fleet) for number, stage in enumerate(tested))
    promoted = float(np.isfinite(found.opened_h[:, -1]).mean())
    shortage: Shortage | None = None
    values: tuple[tuple[str, str | int], ...] = ()
    if promoted < policy.preview_decided:
        shortage = Shortage.TOO_SMALL
        values = (
            ("frames", len(fleet)),
            ("percent", round(100 * promoted)),
            ("days", round(policy.last_day)),
            ("metric", _slowest(found)),
        )
    return Preview(
        frames=len(fleet),
        stages=forecasts,
        hours_median=_quantile(found.opened_h[:, -1], 0.5),
        hours_high=_quantile(found.opened_h[:, -1], 0.9),
        promoted=promoted,
        rolled_back=float(np.isfinite(found.rolled_back_h).mean()),
        harms=tuple(_harm(fleet, tested, policy, seed, *harm) for harm in harms if harm[0] in known),
        shortage=shortage,
        values=values,
    )


def recommend(fleet: Fleet, policy: Policy, seed: int = 0) -> tuple[Stage, ...] | None:
    """The strictest of the known stages that give a verdict in time; None when neither does: gates by hand then."""
    for stages in (STAGES, SMALL_FLEET_STAGES):
        if preview(fleet, stages, policy, seed, harms=()).enough:
            return stages
    return None


def _unknown(fleet: Fleet, shortage: Shortage, values: tuple[tuple[str, str | int], ...]) -> Preview:
    return Preview(len(fleet), (), None, None, 0.0, 0.0, (), shortage, values)


def _stage(number: int, stage: Stage, found: Rehearsed, fleet: Fleet) -> StageForecast:
    opened, after = found.opened_h[:, number], found.opened_h[:, number + 1]
    # Rehearsals that never got this far say nothing about this stage.
    came = np.isfinite(opened)
    hours = after[came] - opened[came]
    return StageForecast(
        share=stage.share,
        canaries=round(stage.share * len(fleet)),
        hours_median=_quantile(hours, 0.5),
        hours_high=_quantile(hours, 0.9),
        bottleneck=_bottleneck(found, number, int(came.sum())),
    )


def _bottleneck(found: Rehearsed, number: int, runs: int) -> str:
    """The metric waited for longest after the dwell, if for a look at least on average."""
    name = max(found.waited, key=lambda metric: float(found.waited[metric][number]))
    return name if runs and found.waited[name][number] >= runs else DWELL


def _slowest(found: Rehearsed) -> str:
    return max(found.waited, key=lambda metric: float(found.waited[metric].sum()))


def _harm(fleet: Fleet, stages: Sequence[Stage], policy: Policy, seed: int, metric: str, effect: float) -> HarmForecast:
    found = rehearse(fleet, stages, policy, {metric: effect}, policy.preview_runs, seed)
    hours = found.rolled_back_h
    return HarmForecast(metric, effect, float(np.isfinite(hours).mean()), _quantile(hours, 0.5), _quantile(hours, 0.9))


def _quantile(hours: FloatArray, share: float) -> float | None:
    """A look's hour; None for infinity or of nothing."""
    if not len(hours):
        return None
    value = float(np.quantile(hours, share, method="higher"))
    return value if math.isfinite(value) else None
