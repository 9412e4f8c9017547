"""Deployments follow what frames report. The tick sees the result; nothing is woken here.

The truth is the newest ReportedState of each frame. ``on_reported`` follows one as it comes in and never waits for
anybody; ``catch_up`` follows all of a rollout's, so that a report which came while its Deployment was being offered,
or while somebody held its row, is not lost.
"""

import datetime as dt
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from fleet.services.telemetry_rows import clean
from ota.domain.deployment import DARK_AFTER, FAILURES, IN_FLIGHT, DeploymentState, Offer, Report, move, said
from ota.models import Deployment, Rollout
from protocol.messages import ReportedState

FOLLOWED = ("running", "paused", "succeeded")
"""Rollouts whose offers stand."""
MOVABLE = [*IN_FLIGHT, *FAILURES, DeploymentState.DARK]


@transaction.atomic
def on_reported(frame_id: str, report: ReportedState) -> None:
    """Move the frame's Deployments as its newest report says."""
    digests = [digest for digest in (report.release, report.target) if digest]
    rows = Deployment.objects.select_for_update(skip_locked=True, of=("self",)).filter(
        frame_id=frame_id, state__in=MOVABLE, rollout__state__in=FOLLOWED, rollout__release__in=digests
    )
    failure = (report.failure.reason.value, clean(report.failure.detail)) if report.failure else ("", "")
    for row in rows.select_related("rollout"):
        _follow(row, Report.of(report), failure, timezone.now())


def catch_up(rollout: Rollout, now: dt.datetime) -> None:
    """Move all Deployments of the rollout as the stored reports say."""
    digest = rollout.release_id
    rows = rollout.deployments.select_for_update(of=("self",)).filter(
        Q(frame__reported__release=digest) | Q(frame__reported__target=digest), state__in=MOVABLE
    )
    behind = rows.exclude(state=F("frame__reported__state")).select_related("frame__reported", "rollout")
    for row in behind.order_by("frame_id"):
        stored = row.frame.reported
        report = Report(stored.state, stored.release, stored.target, stored.desired_version)
        _follow(row, report, (stored.failure_reason, stored.failure_detail), now)


def mark_dark(rollout: Rollout, now: dt.datetime) -> int:
    """Frames in flight that have been silent for DARK_AFTER are dark. Returns how many."""
    since = now - DARK_AFTER
    silent = Q(frame__last_seen=None) | Q(frame__last_seen__lte=since)
    rows = rollout.deployments.filter(silent, state__in=IN_FLIGHT, offered_at__lte=since)
    return rows.update(state=DeploymentState.DARK, updated_at=now)


def _follow(row: Deployment, report: Report, failure: tuple[str, str], now: dt.datetime) -> None:
    to = said(report, Offer(row.rollout.release_id, row.desired_version))
    before = DeploymentState(row.state)
    if to is None or (after := move(before, to)) == before:
        return
    fields: dict[str, Any] = {"state": after, "updated_at": now}
    if after in FAILURES:
        fields["reason"], fields["detail"] = failure
    elif after is DeploymentState.COMMITTED:
        fields |= {"reason": "", "detail": "", "committed_at": now}
    Deployment.objects.filter(pk=row.pk).update(**fields)
