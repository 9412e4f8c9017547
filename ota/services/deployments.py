"""Deployments follow what frames report. The tick sees the result; nothing is woken here.

The truth is the newest ReportedState of each frame. ``on_reports`` follows them as they come in and never waits for
anybody; ``catch_up`` follows all of a rollout's, so that a report which came while its Deployment was being offered,
or while somebody held its row, is not lost.
"""

import datetime as dt
from collections.abc import Iterable, Sequence

from django.db import transaction
from django.db.models import DateTimeField, F, Q, QuerySet, Value
from django.db.models.functions import Coalesce

from fleet import clock
from fleet.services.telemetry_rows import clean
from ota.domain.deployment import DARK_AFTER, FAILURES, IN_FLIGHT, STRANDED, DeploymentState, Offer, Report, move, said
from ota.models import Deployment, Rollout
from protocol.errors import Reason
from protocol.messages import ReportedState

FOLLOWED = ("running", "paused", "succeeded")
"""Rollouts whose offers stand."""
RETURNING = ("rolling_back", "rolled_back")
"""Rollouts whose frames are on their way back; late ones return when the rollout has long ended."""
MOVED = ("state", "updated_at", "attempted_at", "reason", "detail", "failed_at", "committed_at")
"""What changes when a Deployment moves."""
BATCH = 500
MOVABLE = [*IN_FLIGHT, *FAILURES, DeploymentState.DARK]
UNDECIDED = ["downloading", "verifying", "staged", "trial"]
"""What frames report on their way."""


@transaction.atomic
def on_reports(reports: Sequence[tuple[str, ReportedState]]) -> None:
    """Move the Deployments of these frames (by id) as their reports say, oldest first."""
    ids = {frame_id for frame_id, _ in reports}
    now = clock.now()
    rows = Deployment.objects.select_for_update(skip_locked=True, of=("self",)).filter(
        frame__in=ids, state__in=MOVABLE, rollout__state__in=FOLLOWED
    )
    of_frame: dict[str, list[Deployment]] = {}
    for row in rows.select_related("rollout").order_by("pk"):
        of_frame.setdefault(row.frame_id, []).append(row)
    moved: dict[int, Deployment] = {}
    for frame_id, report in reports:
        failure = (report.failure.reason.value, clean(report.failure.detail)) if report.failure else ("", "")
        for row in of_frame.get(frame_id, ()):
            meant = row.rollout.release_id in (report.release, report.target) and row.state in MOVABLE
            if meant and _follow(row, Report.of(report), failure, now):
                moved[row.pk] = row
    _save(moved.values())
    _note_returned(Deployment.objects.filter(frame__in=ids, rollout__state__in=RETURNING), now)


def catch_up(rollout: Rollout, now: dt.datetime) -> None:
    """Move all Deployments of the rollout as the stored reports say."""
    digest = rollout.release_id
    rows = rollout.deployments.select_for_update(of=("self",)).filter(
        Q(frame__reported__release=digest) | Q(frame__reported__target=digest), state__in=MOVABLE
    )
    # What a dark frame said before it fell silent makes it no less dark.
    silent = Q(frame__last_seen=None) | Q(frame__last_seen__lte=now - DARK_AFTER)
    rows = rows.exclude(silent, state=DeploymentState.DARK, frame__reported__state__in=UNDECIDED)
    behind = rows.exclude(state=F("frame__reported__state")).select_related("frame__reported", "rollout")
    _note_returned(rollout.deployments.all(), now)
    moved = []
    for row in behind.order_by("frame_id"):
        stored = row.frame.reported
        report = Report(stored.state, stored.release, stored.target, stored.desired_version)
        if _follow(row, report, (stored.failure_reason, stored.failure_detail), now):
            moved.append(row)
    _save(moved)


def mark_dark(rollout: Rollout, now: dt.datetime) -> int:
    """Frames in flight that have been silent for DARK_AFTER are dark. Returns how many."""
    since = now - DARK_AFTER
    silent = Q(frame__last_seen=None) | Q(frame__last_seen__lte=since)
    rows = rollout.deployments.filter(silent, state__in=IN_FLIGHT, attempted_at__lte=since)
    return rows.update(state=DeploymentState.DARK, updated_at=now)


def time_out(rollout: Rollout, hours: float, now: dt.datetime) -> int:
    """Frames that are heard of and still in flight ``hours`` after their offer have failed, until they say otherwise.
    Returns how many. Silent ones are dark instead."""
    late = now - dt.timedelta(hours=hours)
    heard = Q(frame__last_seen__gt=now - DARK_AFTER)
    rows = rollout.deployments.filter(heard, state__in=IN_FLIGHT, attempted_at__lte=late)
    return rows.update(
        state=DeploymentState.FAILED,
        reason=Reason.TIMEOUT,
        detail=f"It was heard of, and had neither committed nor refused the release {hours:g} hours after its offer.",
        failed_at=Coalesce("failed_at", Value(now, output_field=DateTimeField())),
        updated_at=now,
    )


def _note_returned(rows: QuerySet[Deployment], now: dt.datetime) -> None:
    """Frames that know of the order to go back and neither play nor fetch the release any more have returned. One that
    had committed before it heard, and has nothing to go back to, keeps the release, and nobody waits for it."""
    known = Q(frame__reported__desired_version__gte=F("desired_version"))
    rows = rows.select_for_update(skip_locked=True, of=("self",))
    still = Q(frame__reported__release=F("rollout__release")) | Q(frame__reported__target=F("rollout__release"))
    rows = rows.filter(known, state=DeploymentState.RETURNING)
    returned = Deployment.objects.filter(pk__in=rows.exclude(still).values("pk"))
    returned.update(state=DeploymentState.RETURNED, returned_at=now, updated_at=now)
    keeps = Q(frame__reported__release=F("rollout__release"), frame__reported__state__in=("idle", "committed"))
    stranded = Deployment.objects.filter(pk__in=rows.filter(keeps, former_release=None).values("pk"))
    stranded.exclude(reason=STRANDED).update(reason=STRANDED, updated_at=now)


def _follow(row: Deployment, report: Report, failure: tuple[str, str], now: dt.datetime) -> bool:
    """Move one Deployment, which is yet to be saved. Whether it moved."""
    to = said(report, Offer(row.rollout.release_id, row.desired_version))
    before = DeploymentState(row.state)
    if to is None or (after := move(before, to)) == before:
        return False
    row.state, row.updated_at = after.value, now
    if before is DeploymentState.DARK and after in IN_FLIGHT:
        row.attempted_at = now  # it has only begun
    if after in FAILURES:
        row.reason, row.detail = failure
        row.failed_at = row.failed_at or now
    elif after is DeploymentState.COMMITTED:
        row.reason, row.detail, row.committed_at = "", "", now
    return True


def _save(rows: Iterable[Deployment]) -> None:
    Deployment.objects.bulk_update(rows, MOVED, batch_size=BATCH)
