"""What somebody asks a rollout to be: stages with gates and margins, limits, hours, an end. Pure; checked before use.

    stages    each a share of the group; a household in one is in every later one
    holdback  a share that gets the release last, after ``holdback_h`` hours of watching everybody else

``steps`` is what the engine goes through: the stages, and where there is a holdback one more, which is everybody. Who a
stage is compared with never changes within the rollout: before the holdback's turn, those above the largest stage that
leaves somebody out; while everybody but the holdback has the release, the holdback.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ota.domain.analysis import policy
from ota.domain.assignment import canary_shares
from ota.domain.causes import Cause, Code
from protocol.errors import Reason

MAX_STAGES = 10
MAX_HOURS = 24 * 366.0
START_GRACE = dt.timedelta(minutes=5)
"""A start this long ago is taken as "now": clocks differ, and people need time to press a button."""
HOLDBACK_H = 168.0

Minute = Annotated[int, Meta(ge=0, le=1_439)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class GateKind(StrEnum):
    """What the stage after this one waits for, beside this one's being complete and its dwell."""

    COMMITTED = "committed"
    """Nothing else."""
    MANUAL = "manual"
    """A person advances."""
    EVIDENCE = "evidence"
    """A verdict PROMOTE: none of the stage's margins is passed."""


class StagePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stage: ``share`` of the group (0 to 1), ``dwell_h`` hours before the next may open, ``margins`` by metric as
    in ``ota.domain.analysis.policy.Stage``."""

    share: float
    gate: GateKind = GateKind.COMMITTED
    dwell_h: float = 0.0
    margins: dict[str, float] = {}
    per_minute: Count | None = None
    """Frames offered in a minute; None: the plan's."""
    at_once: Count | None = None
    """Frames in flight at one time; None: the plan's."""

    def policy(self) -> policy.Stage:
        """As the analysis wants it."""
        return policy.Stage(self.share, self.dwell_h, self.margins)


class Window(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Offers begin from ``opens`` to ``closes``, minutes of the day in the frame's own time zone; past midnight where
    ``closes`` is earlier."""

    opens: Minute
    closes: Minute


class Blackout(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing is offered from ``first`` to ``last``, both included, in the frame's own time zone."""

    first: dt.date
    last: dt.date


class BenefitGate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The next stage also waits until the release is shown to be better where it should be: completion by ``at_least``
    (a fraction), or complaints at most ``at_least`` times as many (a ratio below 1)."""

    metric: str
    at_least: float


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it, as it is stored with the rollout. Times are aware datetimes."""

    stages: list[StagePlan]
    holdback: float = 0.0
    holdback_h: float = HOLDBACK_H
    start_at: dt.datetime | None = None
    """Not before; None: at once."""
    end_at: dt.datetime | None = None
    """A release for a season: then every frame returns to its former release."""
    windows: Annotated[list[Window], Meta(max_length=8)] = []
    """Hours in which offers begin; empty: always."""
    blackout: Annotated[list[Blackout], Meta(max_length=32)] = []
    per_minute: Count | None = None
    at_once: Count | None = None
    per_site: Count | None = None
    """Frames in flight at one site at one time."""
    jitter_s: Annotated[int, Meta(ge=0, le=86_400)] = 0
    """Each offer is delayed by up to so many seconds, which the frame's own number decides."""
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    """A frame that two rollouts want goes to the higher one; of equals to the older one."""
    supersedes: Annotated[list[Annotated[int, Meta(ge=1, le=2**63 - 1)]], Meta(max_length=20)] = []
    """Rollouts (ids) that end when this one begins, because it takes their place."""
    retries: dict[Reason, Annotated[int, Meta(ge=0, le=10)]] = {}
    """How often a frame that failed for this reason is offered the release again."""
    timeout_h: float = 72.0
    """A frame that is heard of and still in flight after so many hours has failed."""
    guardrails: bool = True
    """Whether a verdict ROLLBACK rolls back by itself; otherwise it pauses."""
    target: Annotated[str, Meta(max_length=500)] = ""
    """Query of the segment that the release should help; empty: the whole group."""
    benefit: BenefitGate | None = None
    emergency: bool = False
    """Past hours, blackouts, freezes and limits; needs a reason and a second person."""

    def steps(self) -> tuple[StagePlan, ...]:
        """The stages as the engine goes through them, the holdback's included."""
        if not self.holdback:
            return tuple(self.stages)
        last = msgspec.structs.replace(self.stages[-1], share=1.0 - self.holdback, dwell_h=self.holdback_h)
        return (*self.stages[:-1], last, StagePlan(share=1.0))

    def shares(self) -> list[float]:
        """Of ``steps``, ascending."""
        return [step.share for step in self.steps()]

    def control_from(self, number: int) -> float | None:
        """Households of this number u and above are who stage ``number`` (from 1) is compared with; None: nobody."""
        shares = self.shares()
        canary = canary_shares(shares, self.holdback)
        if shares[number - 1] >= 1.0:
            return None
        return canary[-1] if number <= len(canary) else shares[number - 1]


def of_shares(shares: Sequence[float]) -> Plan:
    """Stages that only wait for their frames."""
    return Plan(stages=[StagePlan(share=share) for share in shares])


POLICIES: Mapping[str, tuple[tuple[policy.Stage, ...], float]] = {
    "standard": (policy.STAGES, 0.05),
    "small-fleet": (policy.SMALL_FLEET_STAGES, 0.05),
}
"""Name -> the stages' dwell and margins, and the holdback."""


def by_evidence(name: str, holdback: float | None = None) -> Plan:
    """A policy's stages, gated by evidence. Raises PlanRefused for a name that is none."""
    if name not in POLICIES:
        raise PlanRefused(Cause(Code.PLAN_POLICY, {"policy": name, "possible": ", ".join(POLICIES)}))
    stages, usual = POLICIES[name]
    held = usual if holdback is None else holdback
    steps = [
        StagePlan(
            share=stage.share,
            gate=GateKind.COMMITTED if stage.share >= 1.0 else GateKind.EVIDENCE,
            dwell_h=0.0 if stage.share >= 1.0 else stage.dwell_h,
            margins=dict(stage.margins),
        )
        for stage in stages
    ]
    return Plan(stages=steps, holdback=held, holdback_h=stages[-1].dwell_h)


class PlanRefused(Exception):
    """The plan makes no sense. ``cause`` is one sentence that says what to do."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(str(cause))
        self.cause = cause


def read(given: Any) -> Plan:
    """A plan from JSON's types. Raises PlanRefused naming the field that cannot be read."""
    try:
        return msgspec.convert(given, Plan)
    except msgspec.ValidationError as error:
        raise PlanRefused(Cause(Code.PLAN_UNREADABLE, {"detail": str(error).replace("{", "(")})) from None


def kept(plan: Plan) -> dict[str, Any]:
    """The plan in JSON's types, as it is stored."""
    built: dict[str, Any] = msgspec.to_builtins(plan)
    return built


def check(plan: Plan, now: dt.datetime) -> None:
    """Raises PlanRefused with the first thing that makes no sense."""
    for check_one in (_check_shares, _check_stages, _check_holdback, _check_times, _check_benefit):
        cause = check_one(plan, now)
        if cause is not None:
            raise PlanRefused(cause)


def _check_shares(plan: Plan, _now: dt.datetime) -> Cause | None:
    shares = [stage.share for stage in plan.stages]
    if not 1 <= len(shares) <= MAX_STAGES:
        return Cause(Code.PLAN_STAGES, {"most": MAX_STAGES})
    # Written so that NaN is refused too.
    if not all(0.0 < share <= 1.0 for share in shares):
        return Cause(Code.PLAN_SHARE)
    for number, (before, share) in enumerate(pairwise(shares), start=2):
        if share <= before:
            here, there = _percent(share), _percent(before)
            return Cause(Code.PLAN_SHRINKS, {"stage": number, "share": here, "before": there, "former": number - 1})
    return None


def _check_stages(plan: Plan, _now: dt.datetime) -> Cause | None:
    for number, stage in enumerate(plan.stages, start=1):
        if not 0.0 <= stage.dwell_h <= MAX_HOURS:
            return Cause(Code.PLAN_DWELL, {"stage": number})
        for name, margin in stage.margins.items():
            if name not in policy.MARGINED:
                return Cause(Code.PLAN_METRIC, {"metric": name, "possible": ", ".join(policy.MARGINED)})
            least = 1.0 if name == policy.COMPLAINT else 0.0
            if not least < margin < float("inf"):
                code = Code.PLAN_RATIO if name == policy.COMPLAINT else Code.PLAN_MARGIN
                return Cause(code, {"stage": number, "metric": name, "margin": f"{margin:g}"})
        if stage.gate is GateKind.EVIDENCE and plan.control_from(number) is None:
            return Cause(Code.PLAN_NO_CONTROL, {"stage": number})
    return None


def _check_holdback(plan: Plan, _now: dt.datetime) -> Cause | None:
    if plan.holdback == 0.0:
        return None
    earlier = plan.stages[-2].share if len(plan.stages) > 1 else 0.0
    if not 0.0 < plan.holdback <= 0.5 or plan.stages[-1].share < 1.0 or 1.0 - plan.holdback <= earlier:
        return Cause(Code.PLAN_HOLDBACK, {"most": _percent(min(0.5, 1.0 - earlier))})
    return None if 0.0 < plan.holdback_h <= MAX_HOURS else Cause(Code.PLAN_DWELL, {"stage": len(plan.stages)})


def _check_times(plan: Plan, now: dt.datetime) -> Cause | None:
    for moment in (plan.start_at, plan.end_at):
        if moment is not None and moment.tzinfo is None:
            return Cause(Code.PLAN_ZONE, {"time": moment.isoformat()})
    if plan.start_at is not None and plan.start_at < now - START_GRACE:
        return Cause(Code.PLAN_START_PAST, {"time": plan.start_at.isoformat()})
    if plan.end_at is not None and plan.end_at <= max(now, plan.start_at or now):
        return Cause(Code.PLAN_END, {"time": plan.end_at.isoformat()})
    if any(window.opens == window.closes for window in plan.windows):
        return Cause(Code.PLAN_WINDOW)
    if any(dates.last < dates.first for dates in plan.blackout):
        return Cause(Code.PLAN_BLACKOUT)
    return None if 0.0 < plan.timeout_h <= MAX_HOURS else Cause(Code.PLAN_TIMEOUT)


def _check_benefit(plan: Plan, _now: dt.datetime) -> Cause | None:
    gate = plan.benefit
    if gate is None:
        return None
    good = {policy.COMPLETION: 0.0 <= gate.at_least < 1.0, policy.COMPLAINT: 0.0 < gate.at_least <= 1.0}
    return None if good.get(gate.metric, False) else Cause(Code.PLAN_BENEFIT, {"metric": gate.metric})


def _percent(share: float) -> str:
    return f"{share * 100:g} %"
