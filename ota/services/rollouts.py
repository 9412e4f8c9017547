"""Rollouts: drafting and starting them, a person's commands, and the tick that wakes the engine.

Every change locks the rollout's row, reads the facts, asks the pure ``ota.domain.rollout`` and carries its actions
out, all in one transaction. So any number of ticks and commands at once do what they would do one after the other.
"""

import datetime as dt
import logging
from collections.abc import Sequence

import msgspec
from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Q

from fleet import clock
from fleet.groups import frames_in
from fleet.models import FrameGroup
from ota.domain import actions
from ota.domain import rollout as domain
from ota.domain.causes import Cause, Code
from ota.domain.gates import Facts
from ota.domain.plan import Plan, PlanRefused, check, kept, of_shares
from ota.domain.rollout import TICKED, Command, NotAllowed, RolloutState
from ota.locks import Lock, hold
from ota.models import Release, Rollout, RolloutStage
from ota.selectors_fit import conditions, unfit
from ota.services import deployments, membership, offers, supersede, transfer
from ota.services.effects import ENGINE, note, perform
from ota.services.facts import facts_of, plan_of, state_of
from protocol.errors import Refused

__all__ = ["ENGINE", "NotAllowed", "Stale", "command", "draft", "start", "tick", "tick_all"]

log = logging.getLogger(__name__)


class Stale(Exception):
    """The rollout has moved on since the caller looked. The message is one sentence."""


@transaction.atomic
def draft(
    release: Release,
    group: FrameGroup,
    plan: Plan | Sequence[float],
    actor: str,
    reason: str,
    now: dt.datetime | None = None,
    *,
    base_model: bool = False,
    supersede: Sequence[int] = (),
) -> Rollout:
    """Keep what somebody has in mind: nothing is offered and no frame is held before it is started.

    ``plan`` may be shares alone. Raises NotAllowed with one sentence when the plan makes no sense.
    """
    now = now or clock.now()
    rollout = _create(release, group, _planned(plan, supersede), actor, now, base_model=base_model)
    note(rollout, "drafted", actor, reason, {"stages": plan_of(rollout).shares(), "base_model": base_model}, now)
    return rollout


@transaction.atomic
def start(
    release: Release,
    group: FrameGroup,
    plan: Plan | Sequence[float],
    actor: str,
    reason: str,
    now: dt.datetime | None = None,
    *,
    base_model: bool = False,
    supersede: Sequence[int] = (),
) -> Rollout:
    """Begin to take ``release`` to ``group``; ``plan`` may be ascending shares (0 to 1) alone. The next tick opens the
    first stage at the plan's hour; where two-person approval is on, and in an emergency, somebody else approves first.

    ``base_model`` lets frames that lack the release's base model fetch it; without, they refuse the release.

    Raises NotAllowed with one sentence when the plan makes no sense, the group is empty or overlaps a rollout that is
    under way, the stages hold no frame, or most frames would refuse the release for want of its base model.
    """
    now = now or clock.now()
    rollout = _create(release, group, _planned(plan, supersede), actor, now, base_model=base_model)
    _launch(rollout, actor, reason, now)
    return rollout


def _planned(plan: Plan | Sequence[float], supersede: Sequence[int]) -> Plan:
    plan = plan if isinstance(plan, Plan) else of_shares(plan)
    return msgspec.structs.replace(plan, supersedes=[*plan.supersedes, *supersede]) if supersede else plan


def _create(
    release: Release,
    group: FrameGroup,
    plan: Plan,
    actor: str,
    now: dt.datetime,
    *,
    base_model: bool,
) -> Rollout:
    _check_plan(plan, now)
    rollout = Rollout.objects.create(
        release=release,
        group=group,
        base_model=base_model,
        plan=kept(plan),
        priority=plan.priority,
        end_at=plan.end_at,
        state=RolloutState.DRAFT,
        created_by=actor,
        created_at=now,
    )
    RolloutStage.objects.bulk_create(
        RolloutStage(rollout=rollout, number=number, share=step.share, gate=step.gate, dwell_h=step.dwell_h)
        for number, step in enumerate(plan.steps(), start=1)
    )
    return rollout


def _launch(rollout: Rollout, actor: str, reason: str, now: dt.datetime) -> None:
    """Check a draft against the fleet as it is, take its frames, and let it begin."""
    plan, group = plan_of(rollout), rollout.group
    _check_plan(plan, now)  # a draft may have waited until its hour or its season were over
    if plan.emergency and not reason.strip():
        raise NotAllowed(Cause(Code.EMERGENCY_REASON))
    older = supersede.lock(rollout)
    supersede.check(rollout, older)
    hold(Lock.ROLLOUTS)
    _check_group(rollout)
    rollout.salt = membership.draw_salt(group, plan.shares())
    rollout.save(update_fields=["salt"])
    state, facts = state_of(rollout), facts_of(rollout, now)
    begun = domain.start(state, now, two_person=settings.FRAMEFLEET_TWO_PERSON)
    if not any(isinstance(action, actions.Begin) for action in begun):
        membership.enlist(rollout, plan, now)
    _carry_out(rollout, state, begun, facts, actor, reason, now)
    if not rollout.deployments.filter(stage__isnull=False).exists() and not older:
        raise NotAllowed(Cause(Code.NO_FRAME_IN_STAGES, {"group": group.name, "frames": frames_in(group).count()}))


def _check_plan(plan: Plan, now: dt.datetime) -> None:
    try:
        check(plan, now)
    except PlanRefused as refused:
        raise NotAllowed(refused.cause) from None


def _check_group(rollout: Rollout) -> None:
    """Raises NotAllowed unless the group holds frames that the release fits and that are free."""
    release, group = rollout.release, rollout.group
    frames = frames_in(group)
    count = frames.count()
    if not count:
        raise NotAllowed(Cause(Code.EMPTY_GROUP, {"group": group.name}))
    needs = conditions(release)
    hardware = unfit(needs, frames, base_model=True).get(Code.FRAME_HARDWARE)
    if hardware is not None and not frames.exclude(hardware).exists():
        kinds = ", ".join(sorted(set(frames.order_by().values_list("hardware", flat=True))))
        raise NotAllowed(Cause(Code.FITS_NOBODY, {"group": group.name, "frames": count, "hardware": kinds}))
    if not rollout.base_model:
        _check_base_model(release, group)
    members = membership.members(rollout)
    taken = membership.rivals(rollout, members).select_related("rollout__release").order_by("-rollout_id").first()
    if taken is not None:
        other: dict[str, int | str] = {"rollout": taken.rollout_id, "release": str(taken.rollout.release)}
        raise NotAllowed(Cause(Code.UNDER_WAY, {**other, "frame": taken.frame_id, "group": group.name}))
    if not membership.free(rollout, members).exists():
        raise NotAllowed(Cause(Code.NOBODY_FREE, {"group": group.name, "frames": count}))


def _carry_out(
    rollout: Rollout,
    state: domain.Rollout,
    decided: list[actions.Action],
    facts: Facts,
    actor: str,
    reason: str,
    now: dt.datetime,
) -> domain.Rollout:
    """Perform all of it, one after the other. What begins ends what it supersedes first, and takes its frames."""
    for action in decided:
        if isinstance(action, actions.Begin):
            supersede.end_older(rollout, actor, now)
            membership.enlist(rollout, plan_of(rollout), now)
        state = perform(rollout, state, action, facts, actor, reason, now)
    return state


def _check_base_model(release: Release, group: FrameGroup) -> None:
    lacking = transfer.lacking(release, frames_in(group))
    if lacking is not None and 2 * lacking.count > lacking.frames:
        raise NotAllowed(
            f"{lacking.count} of {lacking.frames} frames of the group {group.name} lack {lacking.path} "
            f"({lacking.artifact.length / 1e6:.1f} MB): allow them to fetch this base model (framectl rollout start "
            "--with-base-model), or release to frames that have it."
        )


@transaction.atomic
def command(
    rollout_id: int, kind: str, seen_state: str, actor: str, reason: str, now: dt.datetime | None = None
) -> Rollout:
    """Do what a person asks for; ``kind`` is a ``Command``, ``seen_state`` the RolloutDetail's they were looking at.

    Raises Stale when the rollout has moved on since, NotAllowed when its state does not allow the command,
    Rollout.DoesNotExist, ValueError for an unknown ``kind``.
    """
    now = now or clock.now()
    wanted = Command(kind)
    rollout = Rollout.objects.select_for_update(of=("self",)).select_related("release", "group").get(pk=rollout_id)
    if seen_state != str(rollout.revision):
        raise Stale(f"Rollout {rollout_id} has moved on since you looked: look again, then repeat the command.")
    if wanted is Command.APPROVE and _proposer(rollout) == actor:
        raise NotAllowed(Cause(Code.OWN_PROPOSAL))
    deployments.catch_up(rollout, now)
    state, facts = state_of(rollout), facts_of(rollout, now)
    try:
        asked = domain.command(state, wanted, facts, reason)
        if wanted is Command.START:
            _launch(rollout, actor, reason, now)
            return rollout
        state = _carry_out(rollout, state, asked, facts, actor, reason, now)
        if wanted is Command.APPROVE:
            _carry_out(rollout, state, domain.decide(state, facts, now), facts, ENGINE, "", now)
        _offer(rollout, now)
    except Refused as refused:
        raise NotAllowed(_group_sentence(rollout, refused)) from None
    return rollout


def _proposer(rollout: Rollout) -> str:
    """Who asked for approval: whoever started it, which may be another than who drafted it."""
    asked = rollout.events.filter(kind="proposed").order_by("-id").values_list("actor", flat=True)
    return asked.first() or rollout.created_by


def tick(rollout_id: int, now: dt.datetime | None = None) -> bool:
    """Let the engine decide. Returns whether anything happened; a rollout that somebody holds is left to them."""
    now = now or clock.now()
    with transaction.atomic():
        rows = Rollout.objects.select_for_update(skip_locked=True, of=("self",)).select_related("release", "group")
        rollout = rows.filter(pk=rollout_id, state__in=TICKED).first()
        if rollout is None:
            return False
        deployments.catch_up(rollout, now)
        deployments.mark_dark(rollout, now)
        deployments.time_out(rollout, plan_of(rollout).timeout_h, now)
        state, facts = state_of(rollout), facts_of(rollout, now)
        decided = domain.decide(state, facts, now)
        _carry_out(rollout, state, decided, facts, ENGINE, "", now)
        offered = _offer(rollout, now)
    return bool(decided) or offered > 0


def tick_all(now: dt.datetime | None = None) -> int:
    """Tick every rollout that the engine watches, each in a transaction of its own. Returns in how many something
    happened.

    What is wrong with one holds up no other. Raises what the database raises when it is away.
    """
    now = now or clock.now()
    ended = (RolloutState.SUCCEEDED, RolloutState.ABORTED)
    season = Q(state__in=ended, end_at__lte=now, current_stage__gt=0)
    over = season | Q(pk__in=membership.due_for_newcomers())
    watched = Rollout.objects.filter(Q(state__in=TICKED.difference(ended)) | over)
    # Who may take frames from others goes first, and of those that have ended the newest: newcomers are that one's.
    rows = list(watched.values_list("priority", "state", "pk"))
    rows.sort(key=lambda row: (-row[0], -row[2] if row[1] == RolloutState.SUCCEEDED else row[2]))
    return sum(_tick_alone(pk, now) for _, _, pk in rows)


def _offer(rollout: Rollout, now: dt.datetime) -> int:
    """Offer what may be offered now: the open stages' frames within all limits; of a finished rollout, those that have
    come into its group since."""
    newcomers = rollout.state == RolloutState.SUCCEEDED and membership.open_to_newcomers().filter(pk=rollout.pk)
    if rollout.current_stage == 0 or not (rollout.state == RolloutState.RUNNING or newcomers):
        return 0
    plan = plan_of(rollout)
    membership.keep_up(rollout, plan, now)
    return offers.offer_due(rollout, plan, now)


def _tick_alone(rollout_id: int, now: dt.datetime) -> bool:
    try:
        return tick(rollout_id, now)
    except Refused as refused:
        return _pause(rollout_id, refused, now)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        log.exception("Rollout %d cannot be ticked; the others go on", rollout_id)
        return False


@transaction.atomic
def _pause(rollout_id: int, refused: Refused, now: dt.datetime) -> bool:
    """The group cannot be read any more: pause, so that people see why nothing moves."""
    rollout = Rollout.objects.select_for_update(of=("self",)).select_related("release", "group").get(pk=rollout_id)
    if rollout.state != RolloutState.RUNNING:
        return False
    pause = actions.Pause(_group_sentence(rollout, refused))
    perform(rollout, state_of(rollout), pause, facts_of(rollout, now), ENGINE, "", now)
    return True


def _group_sentence(rollout: Rollout, refused: Refused) -> str:
    said = refused.detail.rstrip(".")
    return f"The query of the group {rollout.group.name} cannot be read ({said}): put it right, then go on."
