"""Who belongs to a rollout: its group's frames that can run the release, are not pinned, and are no other rollout's.

Of two rollouts that want a frame the one of higher priority has it, unless the other has offered it something already:
such a frame stays until that one ends. Households keep their number, so a frame that joins a control's home is a
control. Callers hold the rollout's row locked.
"""

import datetime as dt
import secrets
from collections import defaultdict
from collections.abc import Sequence

from django.db import connection
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

ACTIVE = tuple(state.value for state in UNDER_WAY)
SALT_DRAWS = 16
ENLIST_EVERY = dt.timedelta(minutes=1)
"""Real time: asking the whole group costs something."""
FOLLOWED_SUCCESSES = 20
"""Finished rollouts that take newcomers in at one tick, those that have waited longest."""

_ENLISTED = """
    INSERT INTO ota_deployment (rollout_id, frame_id, u, stage, arm, state, reason, detail, desired_version, attempts,
                                entered_at, updated_at)
    SELECT %(rollout)s, n.frame, n.u, n.stage, n.arm, 'pending', '', '', 0, 0, %(now)s, %(now)s
    FROM unnest(%(frames)s::text[], %(numbers)s::float8[], %(stages)s::int[], %(arms)s::text[])
         AS n (frame, u, stage, arm)
    ON CONFLICT DO NOTHING
"""


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
    same = Q(rollout__state__in=ACTIVE, rollout__priority=rollout.priority)
    return keepers(rollout).filter(same, frame__in=frames).exclude(rollout__in=[rollout.pk, *superseded(rollout)])


def free(rollout: Rollout, frames: QuerySet[Frame]) -> QuerySet[Frame]:
    """Those of ``frames`` that no other rollout keeps: neither what it supersedes does, nor one of lower priority that
    has offered nothing yet."""
    others = keepers(rollout).exclude(rollout__in=superseded(rollout))
    lower = Q(rollout__priority__lt=rollout.priority, state=DeploymentState.PENDING, offered_at=None)
    return frames.exclude(Exists(others.exclude(lower).filter(frame=OuterRef("pk"))))


def superseded(rollout: Rollout) -> list[int]:
    """Ids of the rollouts whose place it takes when it begins."""
    return [int(one) for one in rollout.plan.get("supersedes", ())] if rollout.plan else []


def enlist(rollout: Rollout, plan: Plan, now: dt.datetime) -> None:
    """Bring the rollout's frames up to date with its group: new ones come in, and those leave that had no offer yet and
    are not in the group, not fit, pinned, or another rollout's now."""
    hold(Lock.ROLLOUTS)
    shares = plan.shares()
    wanted = members(rollout)
    if rollout.state != RolloutState.SUCCEEDED:  # one that is over only asks for frames that nobody has
        lower = Deployment.objects.filter(rollout__state__in=ACTIVE, rollout__priority__lt=rollout.priority)
        _leave(_unasked(lower).filter(frame__in=wanted), now)
    _leave(_unasked(rollout.deployments.all()).exclude(frame__in=wanted), now)
    free_now = wanted.exclude(Exists(keepers(rollout).exclude(rollout=rollout).filter(frame=OuterRef("pk"))))
    _return(rollout, shares, free_now)
    fresh = free_now.exclude(Exists(rollout.deployments.filter(frame=OuterRef("pk")))).order_by("pk")
    found = list(fresh.values_list("pk", "household_id"))
    numbers = [household_number(rollout.salt, household) for _, household in found]
    with connection.cursor() as cursor:
        cursor.execute(
            _ENLISTED,
            {
                "rollout": rollout.pk,
                "now": now,
                "frames": [frame_id for frame_id, _ in found],
                "numbers": numbers,
                "stages": [stage_of(u, shares) for u in numbers],
                "arms": [arm(u, shares, plan.holdback) for u in numbers],
            },
        )
    rollout.enlisted_at = timezone.now()
    Rollout.objects.filter(pk=rollout.pk).update(enlisted_at=rollout.enlisted_at)


def _unasked(rows: QuerySet[Deployment]) -> QuerySet[Deployment]:
    return rows.filter(state=DeploymentState.PENDING, offered_at=None, left_at=None)


def _leave(rows: QuerySet[Deployment], now: dt.datetime) -> None:
    """These are in no stage any more. Once a rollout has begun they stay on its books: what happened to them until now
    belongs to the evidence. Those that another rollout's tick is offering something right now stay its own."""
    rows = rows.select_for_update(skip_locked=True, of=("self",))
    Deployment.objects.filter(pk__in=rows.filter(rollout__began_at=None).values("pk")).delete()
    kept = rows.filter(rollout__began_at__isnull=False)
    Deployment.objects.filter(pk__in=kept.values("pk")).update(stage=None, left_at=now, updated_at=now)


def _return(rollout: Rollout, shares: Sequence[float], frames: QuerySet[Frame]) -> None:
    """Those of ``frames`` that had left come back to the stage that their household's number says."""
    gone = rollout.deployments.filter(state=DeploymentState.PENDING, left_at__isnull=False, frame__in=frames)
    stages: defaultdict[int | None, list[int]] = defaultdict(list)
    for pk, u in gone.values_list("pk", "u"):
        stages[stage_of(u, shares)].append(pk)
    for stage, pks in stages.items():
        Deployment.objects.filter(pk__in=pks).update(stage=stage, left_at=None)


def keep_up(rollout: Rollout, plan: Plan, now: dt.datetime) -> None:
    """``enlist``, if that was not done within the last minute."""
    if rollout.enlisted_at is None or timezone.now() - rollout.enlisted_at >= ENLIST_EVERY:
        enlist(rollout, plan, now)


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
    """Frames of all stages up to ``number`` that have no offer."""
    return rollout.deployments.filter(state=DeploymentState.PENDING, left_at=None, stage__lte=number)


def keepers(rollout: Rollout) -> QuerySet[Deployment]:
    """Deployments that keep their frames from coming in: those here, those in a rollout under way, and those in a
    finished one that is newer or, being of higher priority, offered something while this one was under way."""
    after = Q(rollout__gt=rollout.pk)
    if rollout.began_at is not None:
        after |= Q(rollout__priority__gt=rollout.priority, offered_at__gt=rollout.began_at)
    kept = Q(rollout__state=RolloutState.SUCCEEDED, offered_at__isnull=False) & after
    standing = Deployment.objects.filter(Q(rollout=rollout.pk) | Q(rollout__state__in=ACTIVE) | kept)
    return standing.exclude(state=DeploymentState.PENDING, left_at__isnull=False)
