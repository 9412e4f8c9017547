"""Who belongs to a rollout: its group's frames that can run the release, are not pinned, and are no other rollout's.

Of two rollouts that want a frame the one of higher priority has it, unless the other has offered it something already:
such a frame stays until that one ends. Households keep their number, so a frame that joins a control's home is a
control. Callers hold the rollout's row locked.
"""

import datetime as dt
import secrets
from collections.abc import Sequence

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from fleet.groups import frames_in
from fleet.models import Frame, FrameGroup
from ota.domain.assignment import arm, household_number, stage_of
from ota.domain.deployment import DeploymentState
from ota.domain.plan import Plan
from ota.domain.rollout import UNDER_WAY, RolloutState
from ota.locks import Lock, hold
from ota.models import Deployment, Rollout
from ota.selectors_fit import suited

BATCH = 2_000
ACTIVE = tuple(state.value for state in UNDER_WAY)
SALT_DRAWS = 16
ENLIST_EVERY = dt.timedelta(minutes=1)
"""Real time: asking the whole group costs something."""
FOLLOWED_SUCCESSES = 20
"""Finished rollouts that take newcomers in at one tick, those that have waited longest."""


def draw_salt(group: FrameGroup, shares: Sequence[float]) -> str:
    """A fresh salt whose first stage is not empty.

    In a small group a small share may hold nobody, and such a stage would say nothing; drawing again treats all
    households alike. After SALT_DRAWS the salt is taken as it is.
    """
    households = set(frames_in(group).values_list("household_id", flat=True))
    for _ in range(SALT_DRAWS):
        salt = secrets.token_hex(16)
        if any(household_number(salt, household) < shares[0] for household in households):
            break
    return salt


def members(rollout: Rollout) -> QuerySet[Frame]:
    """Frames of the group that may take part, whoever else wants them."""
    return suited(rollout.release, frames_in(rollout.group).filter(pin=None), base_model=rollout.base_model)


def rivals(rollout: Rollout, frames: QuerySet[Frame]) -> QuerySet[Deployment]:
    """Deployments of these frames in rollouts under way whose priority is the same, those it supersedes left out."""
    busy = Deployment.objects.filter(rollout__state__in=ACTIVE, rollout__priority=rollout.priority, frame__in=frames)
    return busy.exclude(rollout__in=[rollout.pk, *superseded(rollout)])


def free(rollout: Rollout, frames: QuerySet[Frame]) -> QuerySet[Frame]:
    """Those of ``frames`` that no other rollout keeps; what it supersedes keeps none."""
    return frames.exclude(Exists(_known(rollout).exclude(rollout__in=superseded(rollout))))


def superseded(rollout: Rollout) -> list[int]:
    """Ids of the rollouts whose place it takes when it begins."""
    return [int(one) for one in rollout.plan.get("supersedes", ())] if rollout.plan else []


def enlist(rollout: Rollout, plan: Plan) -> None:
    """Bring the rollout's frames up to date with its group: new ones come in, ones that left before any offer go."""
    hold(Lock.ROLLOUTS)
    shares = plan.shares()
    wanted = members(rollout)
    lower = Deployment.objects.filter(
        rollout__state__in=ACTIVE, rollout__priority__lt=rollout.priority, frame__in=wanted
    )
    lower.filter(state=DeploymentState.PENDING, offered_at=None).delete()
    rows = []
    for frame_id, household in wanted.exclude(Exists(_known(rollout))).order_by("pk").values_list("pk", "household_id"):
        u = household_number(rollout.salt, household)
        rows.append(
            Deployment(
                rollout=rollout, frame_id=frame_id, u=u, arm=arm(u, shares, plan.holdback), stage=stage_of(u, shares)
            )
        )
    Deployment.objects.bulk_create(rows, batch_size=BATCH, ignore_conflicts=True)
    never_offered(rollout).exclude(frame__in=wanted).delete()
    rollout.enlisted_at = timezone.now()
    Rollout.objects.filter(pk=rollout.pk).update(enlisted_at=rollout.enlisted_at)


def keep_up(rollout: Rollout, plan: Plan) -> None:
    """``enlist``, if that was not done within the last minute."""
    if rollout.enlisted_at is None or timezone.now() - rollout.enlisted_at >= ENLIST_EVERY:
        enlist(rollout, plan)


def open_to_newcomers() -> QuerySet[Rollout]:
    """Finished rollouts whose group may have newcomers: the newest of each group, unless a newer one is under way."""
    newer = Rollout.objects.filter(
        group=OuterRef("group"),
        pk__gt=OuterRef("pk"),
        state__in=(RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.SUCCEEDED),
    )
    return Rollout.objects.filter(state=RolloutState.SUCCEEDED).exclude(Exists(newer))


def due_for_newcomers() -> list[int]:
    """Ids of those that have not looked for newcomers within the last minute."""
    waited = Q(enlisted_at=None) | Q(enlisted_at__lte=timezone.now() - ENLIST_EVERY)
    due = open_to_newcomers().filter(waited).order_by(F("enlisted_at").asc(nulls_first=True), "-pk")
    return list(due.values_list("pk", flat=True)[:FOLLOWED_SUCCESSES])


def waiting(rollout: Rollout, number: int) -> QuerySet[Deployment]:
    """Frames of all stages up to ``number`` that had no offer yet."""
    return never_offered(rollout).filter(stage__lte=number)


def never_offered(rollout: Rollout) -> QuerySet[Deployment]:
    """Frames that are still as they were when they came in."""
    return rollout.deployments.filter(state=DeploymentState.PENDING, offered_at=None)


def _known(rollout: Rollout) -> QuerySet[Deployment]:
    """Deployments that keep a frame from coming in: its own here, one in a rollout under way, and one in a finished
    rollout that is newer or, being of higher priority, offered it something while this one was under way."""
    after = Q(rollout__gt=rollout.pk)
    if rollout.began_at is not None:
        after |= Q(rollout__priority__gt=rollout.priority, offered_at__gt=rollout.began_at)
    kept = Q(rollout__state=RolloutState.SUCCEEDED, offered_at__isnull=False) & after
    standing = Q(rollout=rollout.pk) | Q(rollout__state__in=ACTIVE) | kept
    return Deployment.objects.filter(standing, frame=OuterRef("pk"))
