"""What a rollout's actions mean for frames: who belongs to it, offering the release, taking an offer back.

Only frames of the rollout's group are ever touched. Callers hold the rollout's row locked.
"""

import datetime as dt
import secrets
from collections.abc import Iterable, Sequence

from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from fleet.groups import frames_in
from fleet.models import Frame, FrameGroup
from fleet.models import ReportedState as Reported
from ota.domain.assignment import arm, household_number, stage_of
from ota.domain.deployment import IN_FLIGHT, DeploymentState, Report, plays
from ota.domain.plan import Plan
from ota.locks import Lock, hold
from ota.models import Deployment, DesiredState, Release, Rollout
from ota.selectors import standing_offers
from ota.services import director
from ota.services.transfer import Terms

BATCH = 2_000
ACTIVE = ("proposed", "scheduled", "running", "paused")
SALT_DRAWS = 16

_OFFERED = """
    UPDATE ota_deployment d SET state = o.state, desired_version = o.version, former_release_id = o.former,
           offered_at = coalesce(d.offered_at, %(now)s), attempted_at = %(now)s, attempts = d.attempts + 1,
           updated_at = %(now)s,
           committed_at = CASE WHEN o.state = 'committed' THEN %(now)s::timestamptz END
    FROM unnest(%(ids)s::bigint[], %(states)s::text[], %(versions)s::bigint[], %(formers)s::text[])
         AS o (id, state, version, former)
    WHERE d.id = o.id
"""

_RETURNING = """
    UPDATE ota_deployment d SET state = 'returning', updated_at = %s, desired_version = o.version
    FROM unnest(%s::text[], %s::bigint[]) AS o (frame_id, version)
    WHERE d.rollout_id = %s AND d.frame_id = o.frame_id
"""
STRANDED = "no_former_release"
"""Reason of a frame that cannot go back: nobody knows what it ran before."""


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


def busy_with(frames: QuerySet[Frame], but: Rollout | None = None) -> QuerySet[Deployment]:
    """Deployments of these frames in rollouts that are proposed, running or paused, except ``but``."""
    found = Deployment.objects.filter(rollout__state__in=ACTIVE, frame__in=frames)
    return found if but is None else found.exclude(rollout=but)


def enlist(rollout: Rollout, plan: Plan) -> None:
    """Bring the rollout's frames up to date with its group: new ones come in, ones that left before any offer go.

    A frame that another rollout has stays with that one; of two that look at the same time one waits.
    """
    hold(Lock.ROLLOUTS)
    shares = plan.shares()
    members = frames_in(rollout.group).filter(pin=None)
    others = Deployment.objects.filter(rollout__state__in=ACTIVE, frame=OuterRef("pk")).exclude(rollout=rollout)
    known = Deployment.objects.filter(rollout=rollout, frame=OuterRef("pk"))
    fresh = members.exclude(Exists(others)).exclude(Exists(known)).order_by("pk").values_list("pk", "household_id")
    rows = []
    for frame_id, household in fresh:
        u = household_number(rollout.salt, household)
        rows.append(
            Deployment(
                rollout=rollout, frame_id=frame_id, u=u, arm=arm(u, shares, plan.holdback), stage=stage_of(u, shares)
            )
        )
    Deployment.objects.bulk_create(rows, batch_size=BATCH, ignore_conflicts=True)
    _never_offered(rollout).exclude(frame__in=members).delete()


def waiting(rollout: Rollout, number: int) -> QuerySet[Deployment]:
    """Frames of all stages up to ``number`` that had no offer yet."""
    return _never_offered(rollout).filter(stage__lte=number)


def offer_due(rollout: Rollout, plan: Plan, now: dt.datetime) -> int:
    """Offer the release to those frames of the open stages that may have it now. Returns how many.

    A frame that runs the release already has committed at once, and gets the DesiredState all the same.
    """
    rows = list(waiting(rollout, rollout.current_stage).order_by("frame_id").values_list("pk", "frame_id"))
    if not rows:
        return 0
    frame_ids = [frame_id for _, frame_id in rows]
    formers = _formers(frame_ids)
    done = {
        row.frame_id
        for row in Reported.objects.filter(pk__in=frame_ids)
        if plays(Report(row.state, row.release, row.target, row.desired_version), rollout.release_id)
    }
    versions = director.set_desired(frame_ids, rollout.release, timezone.now(), _terms(rollout))
    with connection.cursor() as cursor:
        cursor.execute(
            _OFFERED,
            {
                "now": now,
                "ids": [pk for pk, _ in rows],
                "states": ["committed" if frame_id in done else "offered" for frame_id in frame_ids],
                "versions": [versions[frame_id] for frame_id in frame_ids],
                "formers": [formers.get(frame_id) for frame_id in frame_ids],
            },
        )
    return len(rows)


def withdraw(rollout: Rollout, now: dt.datetime) -> int:
    """Frames in flight get the DesiredState they had before, and are pending again: no offer stands. Returns how many.

    Frames that were meant to run something else since are left alone, as are those that have committed.
    """
    touched = standing_offers(rollout).exclude(state=DeploymentState.COMMITTED).select_related("former_release")
    wanted = {row.frame_id: row.former_release for row in touched if row.former_release_id != rollout.release_id}
    director.set_desired_each(wanted, timezone.now(), _terms(rollout))
    withdrawn = [*IN_FLIGHT, DeploymentState.DARK]
    rollout.deployments.filter(state__in=withdrawn).update(state=DeploymentState.PENDING, updated_at=now)
    return len(wanted)


def send_back(rollout: Rollout, now: dt.datetime) -> tuple[int, int]:
    """Every frame that was offered the release is told to run what it ran before, and is returning until it does.

    Returns (frames told, updated frames that stay because nobody knows what they had). Frames that were meant to run
    something else since are left alone.
    """
    wanted: dict[str, Release | None] = {}
    stranded = []
    for row in standing_offers(rollout).select_related("former_release"):
        if row.former_release_id == rollout.release_id:
            continue
        if row.former_release is None and row.state == DeploymentState.COMMITTED:
            stranded.append(row.pk)
        else:
            wanted[row.frame_id] = row.former_release
    versions = director.set_desired_each(wanted, timezone.now(), _terms(rollout))
    with connection.cursor() as cursor:
        cursor.execute(_RETURNING, [now, list(versions), list(versions.values()), rollout.pk])
    rollout.deployments.filter(pk__in=stranded).update(reason=STRANDED, updated_at=now)
    left = [*IN_FLIGHT, DeploymentState.DARK]
    rollout.deployments.filter(state__in=left).update(state=DeploymentState.PENDING, updated_at=now)
    return len(wanted), len(stranded)


def _terms(rollout: Rollout) -> Terms:
    return Terms(rollout.group, rollout.base_model)


def _never_offered(rollout: Rollout) -> QuerySet[Deployment]:
    return rollout.deployments.filter(state=DeploymentState.PENDING, offered_at=None)


def _formers(frame_ids: Iterable[str]) -> dict[str, str]:
    """Frame id -> digest of the release it was meant to run, or says it runs where nobody meant anything."""
    ids = list(frame_ids)
    known = Release.objects.values("digest")
    said = Reported.objects.filter(pk__in=ids, release__in=known).values_list("frame_id", "release")
    meant = DesiredState.objects.filter(pk__in=ids, release__isnull=False).values_list("frame_id", "release_id")
    return {**dict(said), **dict(meant)}
