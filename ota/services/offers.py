"""What a rollout's actions mean for frames: who belongs to it, offering the release, taking an offer back.

Only frames of the rollout's group are ever touched. Callers hold the rollout's row locked.
"""

import datetime as dt
import secrets
from collections.abc import Iterable, Sequence

from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet

from fleet.groups import frames_in
from fleet.models import Frame, FrameGroup
from fleet.models import ReportedState as Reported
from ota.domain.assignment import arm, household_number, stage_of
from ota.domain.deployment import IN_FLIGHT, DeploymentState, Report, plays
from ota.locks import Lock, hold
from ota.models import Deployment, DesiredState, Release, Rollout
from ota.selectors import standing_offers
from ota.services import director
from ota.services.transfer import Terms

BATCH = 2_000
ACTIVE = ("proposed", "running", "paused")
SALT_DRAWS = 16

_OFFERED = """
    UPDATE ota_deployment d SET state = o.state, desired_version = o.version, former_release_id = o.former,
           offered_at = %(now)s, updated_at = %(now)s,
           committed_at = CASE WHEN o.state = 'committed' THEN %(now)s::timestamptz END
    FROM unnest(%(ids)s::bigint[], %(states)s::text[], %(versions)s::bigint[], %(formers)s::text[])
         AS o (id, state, version, former)
    WHERE d.id = o.id
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


def busy_with(frames: QuerySet[Frame], but: Rollout | None = None) -> QuerySet[Deployment]:
    """Deployments of these frames in rollouts that are proposed, running or paused, except ``but``."""
    found = Deployment.objects.filter(rollout__state__in=ACTIVE, frame__in=frames)
    return found if but is None else found.exclude(rollout=but)


def enlist(rollout: Rollout, shares: Sequence[float]) -> None:
    """Bring the rollout's frames up to date with its group: new ones come in, ones that left before any offer go.

    A frame that another rollout has stays with that one; of two that look at the same time one waits.
    """
    hold(Lock.ROLLOUTS)
    members = frames_in(rollout.group)
    others = Deployment.objects.filter(rollout__state__in=ACTIVE, frame=OuterRef("pk")).exclude(rollout=rollout)
    known = Deployment.objects.filter(rollout=rollout, frame=OuterRef("pk"))
    fresh = members.exclude(Exists(others)).exclude(Exists(known)).order_by("pk").values_list("pk", "household_id")
    rows = []
    for frame_id, household in fresh:
        u = household_number(rollout.salt, household)
        rows.append(Deployment(rollout=rollout, frame_id=frame_id, u=u, arm=arm(u, shares), stage=stage_of(u, shares)))
    Deployment.objects.bulk_create(rows, batch_size=BATCH, ignore_conflicts=True)
    _never_offered(rollout).exclude(frame__in=members).delete()


def offer(rollout: Rollout, number: int, now: dt.datetime) -> int:
    """Offer the release to the frames of all stages up to ``number`` that had no offer yet. Returns how many.

    A frame that runs the release already has committed at once, and gets the DesiredState all the same.
    """
    rows = list(_never_offered(rollout).filter(stage__lte=number).order_by("frame_id").values_list("pk", "frame_id"))
    frame_ids = [frame_id for _, frame_id in rows]
    formers = _formers(frame_ids)
    done = {
        row.frame_id
        for row in Reported.objects.filter(pk__in=frame_ids)
        if plays(Report(row.state, row.release, row.target, row.desired_version), rollout.release_id)
    }
    versions = director.set_desired(frame_ids, rollout.release, now, _terms(rollout))
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


def take_back(rollout: Rollout, now: dt.datetime, *, committed: bool) -> tuple[int, int]:
    """Give offered frames the DesiredState they had before; ``committed`` frames too, or only the others.

    Returns (frames set back, updated frames that stay because nobody knows what they had). Frames that were meant to
    run something else since are left alone. Those in flight are pending again: no offer stands.
    """
    touched = standing_offers(rollout)
    if not committed:
        touched = touched.exclude(state=DeploymentState.COMMITTED)
    wanted: dict[str, Release | None] = {}
    unknown = 0
    for row in touched.select_related("former_release"):
        if row.former_release_id == rollout.release_id:
            continue
        if row.former_release is None and row.state == DeploymentState.COMMITTED:
            unknown += 1
            continue
        wanted[row.frame_id] = row.former_release
    director.set_desired_each(wanted, now, _terms(rollout))
    withdrawn = [*IN_FLIGHT, DeploymentState.DARK]
    rollout.deployments.filter(state__in=withdrawn).update(state=DeploymentState.PENDING, updated_at=now)
    return len(wanted), unknown


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
