"""Who is left out of a rollout and why; and of one frame, why it does or does not have the release.

``exclusions`` is asked before a rollout is started, ``reason_for`` of one that exists. Both ask the same questions as
the services that take frames in and offer them the release, in the same order.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q, QuerySet

from fleet import clock
from fleet.groups import known_matching
from fleet.models import Frame, FrameGroup
from ota.domain import schedule
from ota.domain.causes import Cause, Code
from ota.domain.deployment import FAILURES, IN_FLIGHT, STRANDED, DeploymentState
from ota.domain.plan import Plan
from ota.domain.rollout import UNDER_WAY, RolloutState
from ota.models import Deployment, Release, Rollout
from ota.selectors_fit import Conditions, base_label, conditions, unfit
from ota.services import membership, offers
from ota.services.facts import frozen_because, plan_of

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Frames of a group that a release cannot go to for one ``reason``; at most EXAMPLES are named, the first of whom
    ``cause`` is about."""

    reason: Code
    frames: int
    examples: tuple[str, ...]
    cause: Cause


def exclusions(
    release: Release, group: FrameGroup, plan: Plan, *, base_model: bool = False, but: Rollout | None = None
) -> list[Exclusion]:
    """Frames that the group's query means and that a rollout of this plan would leave out now, each under the first
    reason that holds. ``but`` is the rollout itself, where there is one. Raises Refused when the query cannot be read.
    """
    found = []
    needs = conditions(release)
    left = known_matching(group.query)
    for code, which in _reasons(needs, left, plan, base_model=base_model, but=but):
        counted = left.filter(which)
        frames = counted.count()
        left = left.exclude(pk__in=counted.values("pk"))
        if frames:
            examples = tuple(counted.order_by("pk").values_list("pk", flat=True)[:EXAMPLES])
            found.append(Exclusion(code, frames, examples, _cause(code, examples[0], needs, group, plan, but)))
    return found


def eligible(
    release: Release, group: FrameGroup, plan: Plan, *, base_model: bool = False, but: Rollout | None = None
) -> QuerySet[Frame]:
    """The group's frames that ``exclusions`` does not name. Raises Refused when the query cannot be read."""
    left = known_matching(group.query)
    for _, which in _reasons(conditions(release), left, plan, base_model=base_model, but=but):
        left = left.exclude(which)
    return left


def reason_for(rollout: Rollout, frame_id: str, now: dt.datetime | None = None) -> Cause:
    """Why the frame does or does not have the rollout's release. Raises Frame.DoesNotExist."""
    now = now or clock.now()
    frame = Frame.objects.get(pk=frame_id)
    row = rollout.deployments.filter(frame=frame).first()
    if row is not None and not (row.state == DeploymentState.PENDING and row.left_at is not None):
        return _of_deployment(rollout, frame, row, now)
    plan, group, needs = plan_of(rollout), rollout.group, conditions(rollout.release)
    asked = known_matching(group.query).filter(pk=frame_id)
    if not asked.exists():
        return Cause(Code.FRAME_NOT_IN_GROUP, {"frame": frame_id, "group": group.name})
    for code, which in _reasons(needs, asked, plan, base_model=rollout.base_model, but=rollout):
        if asked.filter(which).exists():
            return _cause(code, frame_id, needs, group, plan, rollout)
    if RolloutState(rollout.state) in UNDER_WAY | {RolloutState.DRAFT, RolloutState.SUCCEEDED}:
        return Cause(Code.FRAME_JOINING, {"frame": frame_id, "group": group.name})
    return Cause(Code.FRAME_OVER, {"frame": frame_id, "state": rollout.state.replace("_", " ")})


def _reasons(
    needs: Conditions, frames: QuerySet[Frame], plan: Plan, *, base_model: bool, but: Rollout | None
) -> Iterator[tuple[Code, Q]]:
    yield Code.FRAME_AWAITED, Q(lifecycle=Frame.Lifecycle.AWAITED)
    yield Code.FRAME_RETIRED, Q(lifecycle=Frame.Lifecycle.RETIRED)
    yield Code.FRAME_PINNED, Q(pin__isnull=False)
    yield from unfit(needs, frames, base_model=base_model).items()
    yield Code.FRAME_ELSEWHERE, Q(Exists(_elsewhere(plan, but).filter(frame=OuterRef("pk"))))


def _elsewhere(plan: Plan, but: Rollout | None) -> QuerySet[Deployment]:
    """Deployments under way that keep their frames from a rollout of this plan."""
    if but is not None and but.state != RolloutState.DRAFT:
        return membership.keepers(but).exclude(rollout=but.pk)
    kept = Q(rollout__priority__gte=plan.priority) | Q(offered_at__isnull=False)
    others = Deployment.objects.filter(kept, rollout__state__in=membership.ACTIVE)
    return others.exclude(state=DeploymentState.PENDING, left_at__isnull=False).exclude(rollout__in=plan.supersedes)


def _cause(code: Code, frame_id: str, needs: Conditions, group: FrameGroup, plan: Plan, but: Rollout | None) -> Cause:
    frame = Frame.objects.select_related("pin").get(pk=frame_id)
    said: dict[str, int | str] = {"frame": frame_id}
    match code:
        case Code.FRAME_PINNED:
            said["reason"] = frame.pin.reason
        case Code.FRAME_HARDWARE:
            said |= {"needed": ", ".join(needs.hardware), "hardware": frame.hardware}
        case Code.FRAME_AGENT:
            said |= {"needed": needs.min_agent, "agent": frame.agent_version}
        case Code.FRAME_BASE:
            said["needed"] = base_label(needs)
        case Code.FRAME_ELSEWHERE:
            other = _elsewhere(plan, but).filter(frame=frame).select_related("rollout__release").latest("rollout_id")
            said |= {"rollout": other.rollout_id, "release": str(other.rollout.release)}
        case _:
            pass
    return Cause(code, said)


def _of_deployment(rollout: Rollout, frame: Frame, row: Deployment, now: dt.datetime) -> Cause:
    """The frame is in the rollout: what it is doing there, or waiting for."""
    said: dict[str, int | str] = {"frame": frame.pk}
    state = DeploymentState(row.state)
    if state is DeploymentState.PENDING:
        if row.offered_at is not None:
            return Cause(Code.FRAME_WITHDRAWN, said)
        return _waits(rollout, frame, row, now)
    if state in FAILURES:
        plan = plan_of(rollout)
        tries = {reason.value: tries for reason, tries in plan.retries.items()}.get(row.reason, 0)
        if row.attempts <= tries and rollout.state == RolloutState.RUNNING:
            time = row.updated_at + schedule.pause(row.attempts)
            return Cause(Code.FRAME_RETRY, {**said, "failure": row.reason, "time": time.isoformat(timespec="minutes")})
        return Cause(Code.FRAME_FAILED, {**said, "failure": row.reason, "detail": row.detail})
    if row.reason == STRANDED:
        return Cause(Code.FRAME_STRANDED, said)
    if state in IN_FLIGHT:
        return Cause(Code.FRAME_OFFERED, {**said, "install": row.state})
    return Cause(_SETTLED[state], said)


_SETTLED: dict[DeploymentState, Code] = {
    DeploymentState.COMMITTED: Code.FRAME_HAS_IT,
    DeploymentState.DARK: Code.FRAME_DARK,
    DeploymentState.RETURNING: Code.FRAME_RETURNING,
    DeploymentState.RETURNED: Code.FRAME_RETURNED,
}


def _waits(rollout: Rollout, frame: Frame, row: Deployment, now: dt.datetime) -> Cause:
    """What a frame waits for that has had no offer yet."""
    said: dict[str, int | str] = {"frame": frame.pk}
    plan, state = plan_of(rollout), RolloutState(rollout.state)
    if state not in UNDER_WAY | {RolloutState.DRAFT, RolloutState.SUCCEEDED}:
        return Cause(Code.FRAME_OVER, {**said, "state": rollout.state.replace("_", " ")})
    if row.stage is None:
        return Cause(Code.FRAME_NO_STAGE, said)
    if rollout.current_stage == 0:
        return Cause(Code.FRAME_NOT_BEGUN, {**said, "state": rollout.state, "stage": row.stage})
    if row.stage > rollout.current_stage:
        codes = {"control": Code.FRAME_CONTROL, "holdback": Code.FRAME_HOLDBACK}
        return Cause(codes.get(row.arm, Code.FRAME_LATER), {**said, "stage": row.stage})
    if state is RolloutState.PAUSED:
        return Cause(Code.FRAME_PAUSED, said)
    frozen = frozen_because()
    if frozen is not None and not plan.emergency:
        return Cause(Code.WAITS_FROZEN, {"reason": frozen})
    return _held_up(rollout, plan, frame, row, now) or Cause(Code.FRAME_NEXT, said)


def _held_up(rollout: Rollout, plan: Plan, frame: Frame, row: Deployment, now: dt.datetime) -> Cause | None:
    """Hours, its moment, its site, the rollout's limits; None when nothing holds the frame up."""
    said: dict[str, int | str] = {"frame": frame.pk}
    since = schedule.open_since(plan, frame.timezone, now)
    if since is None:
        opens = schedule.next_opening(plan, frame.timezone, now)
        return Cause(
            Code.FRAME_HOURS, {**said, "time": opens.isoformat(timespec="minutes") if opens is not None else "-"}
        )
    opened = rollout.stages.filter(number=row.stage or 0).values_list("opened_at", flat=True).first()
    moment = schedule.moment(plan, row.u, opened or since, since)
    if moment > now:
        return Cause(Code.FRAME_MOMENT, {**said, "time": moment.isoformat(timespec="minutes")})
    if plan.emergency:
        return None
    step = plan.steps()[rollout.current_stage - 1]
    if plan.per_site is not None:
        site = Deployment.objects.annotate(site=offers.SITE).values_list("site", flat=True).get(pk=row.pk)
        if offers.at_sites().filter(site=site, n__gte=plan.per_site).exists():
            return Cause(Code.FRAME_SITE, {**said, "site": frame.site or frame.household_id, "most": plan.per_site})
    if offers.room_now(rollout, plan, now) > 0:
        return None
    at_once, per_minute = step.at_once or plan.at_once, step.per_minute or plan.per_minute
    if at_once is not None and rollout.deployments.filter(state__in=IN_FLIGHT).count() >= at_once:
        return Cause(Code.FRAME_AT_ONCE, {**said, "most": at_once})
    return Cause(Code.FRAME_RATE, {**said, "most": per_minute or schedule.MOST})
