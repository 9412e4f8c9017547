"""When a plan can be expected to be decided, from the group's own last weeks: ``ota.domain.analysis.preview`` asked."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ota.domain.analysis import policy as policies
from ota.domain.analysis.policy import Policy, Stage
from ota.domain.analysis.power import Fleet, learn
from ota.domain.analysis.preview import Preview, preview, recommend
from ota.domain.analysis.table import HOURS
from ota.domain.plan import GateKind, Plan
from ota.selectors_past import past_of

MANUAL = "manual"
"""What to use where no known policy decides in time: a person at each gate."""
SHORT_HISTORY = "short_history"
LEAST_DAYS = 4
SENTENCES = {
    SHORT_HISTORY: (
        "The group has {days} days of history, and {least} are needed to say when its evidence will be enough: wait, "
        "or let a person decide at each stage."
    ),
}
"""By code, beside ``ota.domain.analysis.preview.SENTENCES``."""


@dataclass(frozen=True, kw_only=True)
class StageHours:
    """How long a stage stays open for a harmless release, in hours; None: longer than a rollout lasts. ``bottleneck``
    is the metric shown last, "exposure" or "dwell"."""

    number: int
    hours_median: float | None
    hours_high: float | None
    bottleneck: str


@dataclass(frozen=True, kw_only=True)
class HarmHours:
    """A clearly harmful release: which share of such rollouts is rolled back, and after how many hours."""

    metric: str
    effect: float
    rolled_back: float
    hours_median: float | None
    hours_high: float | None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Hours from the start to the last verdict, median and 9 of 10, of a harmless release; ``promoted`` is the share of
    such rollouts that are decided in time. Where that is too small, ``enough`` is False, ``warning`` says so in one
    sentence (``warning_code``, ``warning_parameters``: the same for translators), and ``instead`` is what to use:
    "standard", "small-fleet" or "manual"."""

    history_days: int
    stages: tuple[StageHours, ...]
    hours_median: float | None
    hours_high: float | None
    promoted: float
    rolled_back: float
    harms: tuple[HarmHours, ...]
    enough: bool
    warning: str
    warning_code: str
    warning_parameters: Mapping[str, int | str]
    instead: str | None


def forecast_of(
    plan: Plan, frames: Sequence[tuple[str, str, str]], now: dt.datetime, policy: Policy | None = None
) -> Forecast:
    """What to expect of this plan for these frames (id, household, hardware)."""
    policy = policy or Policy()
    past = past_of(frames, now)
    days = round(past.now_h / HOURS)
    if days < LEAST_DAYS:
        return _unknown(days)
    fleet = learn(past, policy)
    return _told(days, preview(fleet, _stages(plan), policy), fleet, policy)


def _stages(plan: Plan) -> list[Stage]:
    """As the analysis judges them: margins count where the gate asks for evidence. What comes after everybody but the
    holdback has the release is no part of the wait."""
    return [
        Stage(stage.share, stage.dwell_h, stage.margins if stage.gate is GateKind.EVIDENCE else {})
        for stage in plan.stages
    ]


def _told(days: int, found: Preview, fleet: Fleet, policy: Policy) -> Forecast:
    instead = None
    if not found.enough:
        stages = recommend(fleet, policy)
        instead = MANUAL if stages is None else "standard" if stages is policies.STAGES else "small-fleet"
    return Forecast(
        history_days=days,
        stages=tuple(
            StageHours(
                number=number,
                hours_median=stage.hours_median,
                hours_high=stage.hours_high,
                bottleneck=stage.bottleneck,
            )
            for number, stage in enumerate(found.stages, start=1)
        ),
        hours_median=found.hours_median,
        hours_high=found.hours_high,
        promoted=found.promoted,
        rolled_back=found.rolled_back,
        harms=tuple(
            HarmHours(
                metric=harm.metric,
                effect=harm.effect,
                rolled_back=harm.rolled_back,
                hours_median=harm.hours_median,
                hours_high=harm.hours_high,
            )
            for harm in found.harms
        ),
        enough=found.enough,
        warning=found.reason,
        warning_code="" if found.shortage is None else found.shortage.value,
        warning_parameters=dict(found.values),
        instead=instead,
    )


def _unknown(days: int) -> Forecast:
    said: dict[str, int | str] = {"days": days, "least": LEAST_DAYS}
    return Forecast(
        history_days=days,
        stages=(),
        hours_median=None,
        hours_high=None,
        promoted=0.0,
        rolled_back=0.0,
        harms=(),
        enough=False,
        warning=SENTENCES[SHORT_HISTORY].format(**said),
        warning_code=SHORT_HISTORY,
        warning_parameters=said,
        instead=MANUAL,
    )
