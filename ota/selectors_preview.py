"""Before a rollout starts: which frames each stage would hold, whom it leaves out and why, and when it can be decided.

Households' numbers are drawn afresh when a rollout starts. The preview draws with a salt of its own, always the same
for a release and group: how many frames a stage will hold is much as it says, which ones is not.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from fleet import clock
from fleet.groups import frames_in
from fleet.models import FrameGroup
from ota.domain.assignment import arm, household_number, stage_of
from ota.domain.causes import Cause, Code
from ota.domain.plan import GateKind, Plan, check
from ota.models import Deployment, Release, Rollout
from ota.selectors_eligibility import eligible, exclusions
from ota.selectors_fit import conditions
from ota.selectors_forecast import Forecast, forecast_of
from ota.services import membership

EXAMPLES = 10
"""Frames named of each stage."""


@dataclass(frozen=True, kw_only=True)
class StagePreview:
    """One stage: ``frames`` come in with it, ``canaries`` have the release then, and ``controls`` they are compared
    with (0 where there is nobody)."""

    number: int
    share: float
    gate: str
    dwell_h: float
    margins: Mapping[str, float]
    frames: int
    canaries: int
    controls: int
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ExcludedFrames:
    """Frames of the group that it leaves out for one reason; ``cause`` says it of the first example."""

    code: str
    parameters: Mapping[str, int | str]
    sentence: str
    frames: int
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Preview:
    """``refused`` is why it could not start as it is, None where nothing is known against it; ``arms`` counts frames by
    arm. ``forecast`` is None where no stage waits for evidence."""

    release: str
    agent: str
    """The version of the agent that it brings; "" for none, and frames keep theirs."""
    group: str
    refused: str | None
    refused_code: str | None
    refused_parameters: Mapping[str, int | str]
    frames: int
    households: int
    arms: Mapping[str, int]
    no_stage: int
    """Frames that no stage ever offers it to."""
    stages: tuple[StagePreview, ...]
    excluded: tuple[ExcludedFrames, ...]
    forecast: Forecast | None
    note: str


NOTE = "Which household comes when is drawn at the start: the frames named here are examples of another draw."


def preview(
    release: Release,
    group: FrameGroup,
    plan: Plan,
    now: dt.datetime | None = None,
    *,
    base_model: bool = False,
    draft: Rollout | None = None,
) -> Preview:
    """What would become of this plan now. ``draft`` is the rollout, where it is kept as one. Raises Refused when the
    group's query cannot be read, PlanRefused when the plan makes no sense."""
    now = now or clock.now()
    check(plan, now)
    rows = eligible(release, group, plan, base_model=base_model, but=draft).order_by("pk")
    frames = list(rows.values_list("pk", "household_id", "hardware"))
    excluded = exclusions(release, group, plan, base_model=base_model, but=draft)
    salt = f"preview:{release.digest}:{group.pk}"
    number_of = {household: household_number(salt, household) for household in {row[1] for row in frames}}
    frames.sort(key=lambda row: (number_of[row[1]], row[0]))
    drawn = [(row[0], number_of[row[1]]) for row in frames]
    refused = _refused(group, plan, drawn, sum(one.frames for one in excluded), draft)
    return Preview(
        release=str(release),
        agent=conditions(release).agent,
        group=group.name,
        refused=None if refused is None else str(refused),
        refused_code=None if refused is None else refused.code.value,
        refused_parameters={} if refused is None else dict(refused.parameters),
        frames=len(frames),
        households=len(number_of),
        arms=_arms(plan, drawn),
        no_stage=sum(stage_of(u, plan.shares()) is None for _, u in drawn),
        stages=tuple(_stage(plan, number, drawn) for number in range(1, len(plan.steps()) + 1)),
        excluded=tuple(
            ExcludedFrames(
                code=one.reason.value,
                parameters=dict(one.cause.parameters),
                sentence=str(one.cause),
                frames=one.frames,
                examples=one.examples,
            )
            for one in excluded
        ),
        forecast=forecast_of(plan, frames, now) if _asks_evidence(plan) and frames else None,
        note=NOTE,
    )


def _stage(plan: Plan, number: int, drawn: list[tuple[str, float]]) -> StagePreview:
    step, shares, above = plan.steps()[number - 1], plan.shares(), plan.control_from(number)
    own = [frame_id for frame_id, u in drawn if stage_of(u, shares) == number]
    return StagePreview(
        number=number,
        share=step.share,
        gate=step.gate.value,
        dwell_h=step.dwell_h,
        margins=dict(step.margins),
        frames=len(own),
        canaries=sum(u < step.share for _, u in drawn),
        controls=0 if above is None else sum(u >= above for _, u in drawn),
        examples=tuple(own[:EXAMPLES]),
    )


def _arms(plan: Plan, drawn: list[tuple[str, float]]) -> dict[str, int]:
    counts = {"canary": 0, "control": 0, "holdback": 0}
    for _, u in drawn:
        counts[arm(u, plan.shares(), plan.holdback)] += 1
    return counts


def _asks_evidence(plan: Plan) -> bool:
    return any(step.gate is GateKind.EVIDENCE for step in plan.steps())


def _refused(
    group: FrameGroup, plan: Plan, drawn: list[tuple[str, float]], excluded: int, draft: Rollout | None
) -> Cause | None:
    """Why ``ota.services.rollouts.start`` would refuse it as the fleet is now."""
    if not drawn and not excluded:
        return Cause(Code.EMPTY_GROUP, {"group": group.name})
    taken = _rival(group, plan, draft)
    if taken is not None:
        other: dict[str, int | str] = {"rollout": taken.rollout_id, "release": str(taken.rollout.release)}
        return Cause(Code.UNDER_WAY, {**other, "frame": taken.frame_id, "group": group.name})
    if not drawn:
        return Cause(Code.NOBODY_FREE, {"group": group.name, "frames": excluded})
    if all(stage_of(u, plan.shares()) is None for _, u in drawn):
        return Cause(Code.NO_FRAME_IN_STAGES, {"group": group.name, "frames": len(drawn)})
    return None


def _rival(group: FrameGroup, plan: Plan, draft: Rollout | None) -> Deployment | None:
    """A frame that a rollout of the same priority has."""
    frames = frames_in(group).filter(pin=None)
    busy = Deployment.objects.filter(
        rollout__state__in=membership.ACTIVE, rollout__priority=plan.priority, frame__in=frames
    )
    besides = [*plan.supersedes, *([draft.pk] if draft is not None else [])]
    rows = busy.exclude(rollout__in=besides).select_related("rollout__release")
    return rows.order_by("-rollout_id", "frame_id").first()
