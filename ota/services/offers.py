"""Offering the release: which frames of the open stages get their DesiredState now.

Nothing is loaded that cannot be offered: hours, moments, sites and retries are conditions of one query, in the order of
the households' numbers, cut off at what limits leave room for. Callers hold the rollout's row locked.
"""

import datetime as dt
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Case, CharField, Count, F, FloatField, Q, QuerySet, Value, When
from django.db.models.functions import Concat, Floor
from django.utils import timezone

from fleet.models import Frame
from fleet.models import ReportedState as Reported
from ota.domain import schedule
from ota.domain.deployment import FAILURES, IN_FLIGHT, DeploymentState, Report, plays
from ota.domain.plan import Plan
from ota.models import Deployment, Rollout
from ota.services import director
from ota.services.facts import frozen_because
from ota.services.returns import former_releases
from ota.services.transfer import Terms

BUSY = ("running", "paused")
"""Rollouts whose frames in flight share a site with others'."""

# What a frame had before the first try is what it goes back to, not what it has tried since.
_OFFERED = """
    UPDATE ota_deployment d SET state = o.state, desired_version = o.version, reason = '', detail = '',
           former_release_id = CASE WHEN d.state = 'pending' THEN o.former ELSE d.former_release_id END,
           offered_at = coalesce(d.offered_at, %(now)s), attempted_at = %(now)s, attempts = d.attempts + 1,
           updated_at = %(now)s,
           committed_at = CASE WHEN o.state = 'committed' THEN %(now)s::timestamptz END
    FROM unnest(%(ids)s::bigint[], %(states)s::text[], %(versions)s::bigint[], %(formers)s::text[])
         AS o (id, state, version, former)
    WHERE d.id = o.id
"""

SITE: Case = Case(
    When(frame__site="", then=Concat(Value("household "), F("frame__household_id"))),
    default=Concat(Value("site "), F("frame__site")),
    output_field=CharField(),
)
"""The uplink a frame shares: its site's, or its household's own."""
FRACTION = F("u") * schedule.MOMENTS - Floor(F("u") * schedule.MOMENTS, output_field=FloatField())
"""``ota.domain.schedule.fraction``; both are exact, a power of two times a float."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A frame that may be offered the release now."""

    pk: int
    frame_id: str
    site: str


def offer_due(rollout: Rollout, plan: Plan, now: dt.datetime) -> int:
    """Offer the release to those frames of the open stages that may have it now, at most ``schedule.MOST``. Returns how
    many.

    A frame that runs the release already has committed at once, and gets the DesiredState all the same.
    """
    if not plan.emergency and frozen_because() is not None:
        return 0
    room = room_now(rollout, plan, now)
    chosen = _choose(rollout, plan, now, room) if room else []
    if not chosen:
        return 0
    frame_ids = [one.frame_id for one in chosen]
    formers = former_releases(frame_ids)  # before the new DesiredState takes the place of the old one
    terms = Terms(rollout.group, rollout.base_model)
    versions = director.set_desired(frame_ids, rollout.release, timezone.now(), terms)
    rows = [one for one in chosen if one.frame_id in versions]  # without those that were retired meanwhile
    done = {
        row.frame_id
        for row in Reported.objects.filter(pk__in=frame_ids)
        if plays(Report(row.state, row.release, row.target, row.desired_version), rollout.release_id)
    }
    with connection.cursor() as cursor:
        cursor.execute(
            _OFFERED,
            {
                "now": now,
                "ids": [one.pk for one in rows],
                "states": ["committed" if one.frame_id in done else "offered" for one in rows],
                "versions": [versions[one.frame_id] for one in rows],
                "formers": [formers.get(one.frame_id) for one in rows],
            },
        )
    return len(rows)


def room_now(rollout: Rollout, plan: Plan, now: dt.datetime) -> int:
    """How many frames the rollout's limits let it offer the release to now."""
    step = plan.steps()[rollout.current_stage - 1]
    in_flight = last_minute = 0
    if (step.at_once or plan.at_once) is not None:
        in_flight = rollout.deployments.filter(state__in=IN_FLIGHT).count()
    if (step.per_minute or plan.per_minute) is not None:
        last_minute = rollout.deployments.filter(attempted_at__gt=now - schedule.MINUTE).count()
    return schedule.room(plan, step, in_flight, last_minute)


def due(rollout: Rollout, plan: Plan, now: dt.datetime) -> "QuerySet[Deployment]":
    """Frames that may be offered the release now, but for limits: in their hours, at their moment, or to be tried
    again."""
    rows = rollout.deployments.filter(stage__lte=rollout.current_stage)
    fresh = Q(state=DeploymentState.PENDING, left_at=None)
    if not plan.emergency:
        hours, moments = _hours(rollout, plan, now)
        rows, fresh = rows.filter(hours), fresh & moments
        if moments:
            rows = rows.annotate(fraction=FRACTION)
    return rows.filter(fresh | again(plan, now)) if plan.retries else rows.filter(fresh)


def again(plan: Plan, now: dt.datetime) -> Q:
    """Frames whose failure is of a kind that is tried again, and whose pause is over."""
    found = Q(pk__in=[])
    for attempt in range(1, max(plan.retries.values(), default=0) + 1):
        reasons = [reason.value for reason, tries in plan.retries.items() if tries >= attempt]
        found |= Q(attempts=attempt, reason__in=reasons, updated_at__lte=now - schedule.pause(attempt))
    return Q(state__in=FAILURES, frame__pin=None, frame__lifecycle=Frame.Lifecycle.ACTIVE) & found


def _choose(rollout: Rollout, plan: Plan, now: dt.datetime, room: int) -> list[Candidate]:
    """At most ``room`` frames in the order of their households' numbers, locked until the transaction ends; those that
    somebody else holds are left for the next tick."""
    rows = due(rollout, plan, now).order_by("u", "pk")
    by_site = plan.per_site if not plan.emergency else None
    if by_site is None:
        locked = rows.select_for_update(skip_locked=True, of=("self",))
        return [Candidate(pk, frame, "") for pk, frame in locked.values_list("pk", "frame_id")[:room]]
    counted = at_sites()
    full = counted.filter(n__gte=by_site).values("site")
    locked = rows.annotate(site=SITE).exclude(site__in=full).select_for_update(skip_locked=True, of=("self",))
    found = [Candidate(*row) for row in locked.values_list("pk", "frame_id", "site")[:room]]
    taken = Counter(dict(counted.filter(site__in=[one.site for one in found]).values_list("site", "n")))
    chosen = []
    for one in found:
        if taken[one.site] < by_site:
            taken[one.site] += 1
            chosen.append(one)
    return chosen


def at_sites() -> "QuerySet[Any, Any]":
    """Lines that frames share (``site``) -> how many of them are in flight (``n``), in any rollout."""
    there = Deployment.objects.filter(rollout__state__in=BUSY, state__in=IN_FLIGHT).annotate(site=SITE)
    return there.order_by().values("site").annotate(n=Count("pk"))


def _hours(rollout: Rollout, plan: Plan, now: dt.datetime) -> tuple[Q, Q]:
    """Which frames' hours it is, and of those whose moment has come."""
    hours, moments = Q(), Q()
    if plan.jitter_s:
        opened = rollout.stages.filter(opened_at__isnull=False).values_list("number", "opened_at")
        moments = _moments([(Q(stage=number), at) for number, at in opened if at is not None], plan, now)
    if plan.windows or plan.blackout:
        zones: defaultdict[dt.datetime, list[str]] = defaultdict(list)
        for zone in rollout.deployments.order_by().values_list("frame__timezone", flat=True).distinct():
            since = schedule.open_since(plan, zone, now)
            if since is not None:
                zones[since].append(zone)
        hours = Q(frame__timezone__in=[zone for names in zones.values() for zone in names])
        if plan.jitter_s:
            moments &= _moments([(Q(frame__timezone__in=names), since) for since, names in zones.items()], plan, now)
    return hours, moments


def _moments(opened: list[tuple[Q, dt.datetime]], plan: Plan, now: dt.datetime) -> Q:
    """Frames whose part of the jitter has passed since theirs opened (``schedule.moment``)."""
    found = Q(pk__in=[])
    for which, since in opened:
        part = (now - since).total_seconds() / plan.jitter_s
        found |= which if part >= 1.0 else which & Q(fraction__lte=part)
    return found
