"""Taking the release back: from frames that have not committed it (abort), from all that were offered it (roll back).

Callers hold the rollout's row locked.
"""

import datetime as dt
from collections.abc import Iterable, Sequence

from django.db import connection
from django.utils import timezone

from fleet.models import ReportedState as Reported
from ota.domain.deployment import FAILURES, IN_FLIGHT, STRANDED, DeploymentState
from ota.domain.rollout import RolloutState
from ota.models import Deployment, DesiredState, Release, Rollout
from ota.selectors_offers import standing_offers
from ota.services import director
from ota.services.transfer import Terms

_RETURNING = """
    UPDATE ota_deployment d SET state = 'returning', updated_at = %s, desired_version = o.version
    FROM unnest(%s::text[], %s::bigint[]) AS o (frame_id, version)
    WHERE d.rollout_id = %s AND d.frame_id = o.frame_id
"""


def withdraw(rollout: Rollout, now: dt.datetime) -> int:
    """Frames in flight get the DesiredState they had before, and are pending again: no offer stands. Returns how many.

    Frames that were meant to run something else since are left alone, as are those that have committed.
    """
    touched = list(standing_offers(rollout).exclude(state=DeploymentState.COMMITTED).select_related("former_release"))
    formers = _last_good(rollout, touched)
    wanted = {frame_id: former for frame_id, former in formers.items() if former != rollout.release}
    director.set_desired_each(wanted, timezone.now(), Terms(rollout.group, rollout.base_model))
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
    standing = list(standing_offers(rollout).select_related("former_release"))
    formers = _last_good(rollout, standing)
    for row in standing:
        former = formers[row.frame_id]
        if former == rollout.release:
            continue
        if former is None and row.state == DeploymentState.COMMITTED:
            stranded.append(row.pk)
        else:
            wanted[row.frame_id] = former
    versions = director.set_desired_each(wanted, timezone.now(), Terms(rollout.group, rollout.base_model))
    with connection.cursor() as cursor:
        cursor.execute(_RETURNING, [now, list(versions), list(versions.values()), rollout.pk])
    rollout.deployments.filter(pk__in=stranded).update(reason=STRANDED, updated_at=now)
    left = [*IN_FLIGHT, DeploymentState.DARK]
    rollout.deployments.filter(state__in=left).update(state=DeploymentState.PENDING, updated_at=now)
    return len(wanted), len(stranded)


def _last_good(rollout: Rollout, rows: Sequence[Deployment]) -> dict[str, Release | None]:
    """Frame id -> what it goes back to: what it had before, unless that was taken back by its own rollout meanwhile;
    then what it had before that."""
    found = {row.frame_id: row.former_release for row in rows}
    bad = (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK)
    before = Deployment.objects.filter(frame__in=found, rollout__lt=rollout.pk, offered_at__isnull=False)
    formers = {former.digest for former in found.values() if former is not None}
    if not Rollout.objects.filter(pk__lt=rollout.pk, state__in=bad, release__in=formers).exists():
        return found
    good: set[str] = set()
    for row in before.select_related("rollout", "former_release").order_by("-rollout_id"):
        held = found[row.frame_id]
        if held is None or held.digest != row.rollout.release_id or row.frame_id in good:
            continue
        if row.rollout.state in bad and row.former_release is not None:
            found[row.frame_id] = row.former_release
        else:
            good.add(row.frame_id)
    return found


def former_releases(frame_ids: Iterable[str]) -> dict[str, str]:
    """Frame id -> digest of the release to go back to: what the frame was meant to run, or says it plays where nobody
    meant anything. Never what it is trying out, nor what it was offered and did not take."""
    ids = list(frame_ids)
    refused = _not_taken(ids)
    said: dict[str, str] = {}
    trying: dict[str, str] = {}
    for row in Reported.objects.filter(pk__in=ids, release__in=Release.objects.values("digest")):
        on_probation = row.state not in ("idle", "committed") and row.target in ("", row.release)
        (trying if on_probation else said)[row.frame_id] = row.release
    meant: dict[str, str] = {}
    instead: dict[str, str] = {}
    desired = DesiredState.objects.filter(pk__in=ids, release__isnull=False).values_list("frame_id", "release_id")
    for frame_id, digest in desired:
        if digest not in (not_taken := refused.get(frame_id, {})):
            meant[frame_id] = digest or ""
        elif (former := not_taken[digest or ""]) is not None:
            instead[frame_id] = former
    before = {
        frame_id: former
        for frame_id, digest in trying.items()
        if (former := refused.get(frame_id, {}).get(digest)) is not None
    }
    return {**instead, **before, **said, **meant}


_NOT_TAKEN = frozenset({*FAILURES, *IN_FLIGHT, DeploymentState.PENDING, DeploymentState.DARK})


def _not_taken(frame_ids: list[str]) -> dict[str, dict[str, str | None]]:
    """Frame id -> release that it was offered last and has not committed -> what it had before that."""
    rows = Deployment.objects.filter(frame_id__in=frame_ids, offered_at__isnull=False).order_by("rollout_id")
    found: dict[str, dict[str, str | None]] = {}
    for row in rows.values_list("frame_id", "rollout__release_id", "state", "former_release_id"):
        frame_id, digest, state, former = row
        if state in _NOT_TAKEN:
            found.setdefault(frame_id, {})[digest] = former
        else:
            found.get(frame_id, {}).pop(digest, None)
    return found
