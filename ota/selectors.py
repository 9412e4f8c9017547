"""Reading releases and rollouts, for the REST API and the console alike: frozen dataclasses, a few queries each."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q

from ota.domain.deployment import FAILURES, IN_FLIGHT, DeploymentState
from ota.domain.plan import Plan, kept
from ota.models import Deployment, Release, Rollout, RolloutStage
from ota.selectors_looks import VerdictDetail, verdict_of
from ota.selectors_metrics import DayRow, MetricRow, daily_rows, metric_rows
from ota.selectors_now import Drift, Stranded, Waiting, drift_of, stranded_of, waiting_of
from ota.services.facts import plan_of

EXAMPLES = 20
"""Frames named per reason of failure."""
EVENTS = 500
"""Newest events shown of one rollout."""


@dataclass(frozen=True, kw_only=True)
class StageDetail:
    """One stage: ``share`` of the group (0 to 1), ``counts`` of its Deployments by state (every state is a key);
    ``margins`` by metric, ``control_from`` the household number above which it is compared, as in the plan."""

    number: int
    share: float
    gate: str
    dwell_h: float
    margins: Mapping[str, float]
    control_from: float | None
    opened_at: dt.datetime | None
    completed_at: dt.datetime | None
    frames: int
    counts: Mapping[str, int]
    committed: int
    in_flight: int
    failed: int
    dark: int
    returning: int
    returned: int


@dataclass(frozen=True, kw_only=True)
class FailedFrame:
    """A frame that did not make it, and its own sentence about it."""

    frame_id: str
    state: str
    detail: str
    at: dt.datetime


@dataclass(frozen=True, kw_only=True)
class FailureGroup:
    """Frames that failed or reverted for one ``reason`` (``protocol.errors.Reason``); at most EXAMPLES are listed."""

    reason: str
    frames: int
    examples: tuple[FailedFrame, ...]


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """One entry of the rollout's trail."""

    at: dt.datetime
    actor: str
    kind: str
    reason: str
    detail: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class RolloutSummary:
    """A rollout as lists show it. ``seen_state`` goes back with a command; ``release`` is "name version"."""

    id: int
    release: str
    release_digest: str
    group: str
    group_query: str
    state: str
    reason: str
    seen_state: str
    current_stage: int
    created_by: str
    created_at: dt.datetime
    began_at: dt.datetime | None
    end_at: dt.datetime | None
    """Of a release for a season."""
    ended_at: dt.datetime | None
    priority: int
    superseded_by: int | None
    frames: int
    """Frames of the group that the rollout knows."""
    pending: int
    """Not offered yet, those that no stage exposes included."""
    in_flight: int
    committed: int
    failed: int
    dark: int
    returning: int
    returned: int
    stages: tuple[StageDetail, ...]


@dataclass(frozen=True, kw_only=True)
class RolloutDetail(RolloutSummary):
    """A rollout as its page shows it. ``simulated`` of its frames are simulated; ``plan`` is ``ota.domain.plan.Plan``
    in JSON's types."""

    base_model: bool
    plan: Mapping[str, object]
    waiting: Waiting | None
    verdict: VerdictDetail | None
    simulated: int
    stranded: Stranded
    drift: Drift
    failures: tuple[FailureGroup, ...]
    metrics: tuple[MetricRow, ...]
    daily: tuple[DayRow, ...]
    events: tuple[EventRow, ...]


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """Deployments of one rollout: stage (0 for none) -> state -> frames."""

    by_stage: Mapping[int, Mapping[str, int]]

    def of_stage(self, number: int) -> dict[str, int]:
        counts = self.by_stage.get(number, {})
        return {state.value: counts.get(state.value, 0) for state in DeploymentState}

    def total(self, states: Iterable[str] = tuple(DeploymentState)) -> int:
        wanted = set(states)
        return sum(n for counts in self.by_stage.values() for state, n in counts.items() if state in wanted)


def rollouts(limit: int = 50, before: int | None = None) -> list[RolloutSummary]:
    """The newest rollouts, newest first; ``before`` is the id to go on below."""
    rows = Rollout.objects.select_related("release", "group").prefetch_related("stages").order_by("-id")
    if before is not None:
        rows = rows.filter(id__lt=before)
    found = list(rows[:limit])
    counts = _counts([rollout.pk for rollout in found])
    return [RolloutSummary(**_summary(rollout, counts[rollout.pk])) for rollout in found]


def rollout_summary(rollout: Rollout) -> RolloutSummary:
    """One rollout as lists show it."""
    return RolloutSummary(**_summary(rollout, _counts([rollout.pk])[rollout.pk]))


def rollouts_of_frame(frame_id: str, limit: int = 20) -> list[Deployment]:
    """The frame's newest Deployments with rollout and release."""
    rows = Deployment.objects.filter(frame_id=frame_id).select_related("rollout__release", "rollout__group")
    return list(rows.order_by("-rollout_id")[:limit])


def rollout_detail(rollout: Rollout) -> RolloutDetail:
    """Everything the rollout's page shows, in about ten queries whatever the size of the group."""
    release_names = {release.digest: str(release) for release in Release.objects.only("digest", "name", "version")}
    events = list(reversed(rollout.events.order_by("-id")[:EVENTS]))
    return RolloutDetail(
        **_summary(rollout, _counts([rollout.pk])[rollout.pk]),
        base_model=rollout.base_model,
        plan=kept(plan_of(rollout)),
        waiting=waiting_of(rollout),
        verdict=verdict_of(rollout),
        stranded=stranded_of(rollout),
        drift=drift_of(rollout),
        simulated=rollout.deployments.filter(frame__simulated=True).count(),
        failures=_failures(rollout),
        metrics=metric_rows(rollout, release_names),
        daily=daily_rows(rollout),
        events=tuple(
            EventRow(at=event.at, actor=event.actor, kind=event.kind, reason=event.reason, detail=event.detail)
            for event in events
        ),
    )


def release_names(digests: Iterable[str]) -> dict[str, str]:
    """Digest -> "name version" for the releases known here."""
    return {release.digest: str(release) for release in Release.objects.filter(digest__in=set(digests))}


def _counts(rollout_ids: list[int]) -> dict[int, _Counts]:
    tables: dict[int, dict[int, dict[str, int]]] = {pk: defaultdict(dict) for pk in rollout_ids}
    rows = Deployment.objects.filter(rollout_id__in=rollout_ids).order_by()
    for pk, stage, state, frames in rows.values_list("rollout_id", "stage", "state").annotate(n=Count("id")):
        tables[pk][stage or 0][state] = frames
    return {pk: _Counts(by_stage=table) for pk, table in tables.items()}


def _summary(rollout: Rollout, counts: _Counts) -> dict[str, Any]:
    return {
        "id": rollout.pk,
        "release": str(rollout.release),
        "release_digest": rollout.release_id,
        "group": rollout.group.name,
        "group_query": rollout.group.query,
        "state": rollout.state,
        "reason": rollout.reason,
        "seen_state": str(rollout.revision),
        "current_stage": rollout.current_stage,
        "created_by": rollout.created_by,
        "created_at": rollout.created_at,
        "began_at": rollout.began_at,
        "end_at": rollout.end_at,
        "ended_at": rollout.ended_at,
        "priority": rollout.priority,
        "superseded_by": rollout.superseded_by_id,
        "frames": counts.total(),
        "pending": counts.total(["pending"]),
        "in_flight": counts.total(IN_FLIGHT),
        "committed": counts.total(["committed"]),
        "failed": counts.total(FAILURES),
        "dark": counts.total(["dark"]),
        "returning": counts.total(["returning"]),
        "returned": counts.total(["returned"]),
        "stages": _stages(rollout, counts),
    }


def _stages(rollout: Rollout, counts: _Counts) -> tuple[StageDetail, ...]:
    plan, rows = plan_of(rollout), rollout.stages.all()
    return tuple(_stage(row, plan, counts.of_stage(row.number)) for row in rows)


def _stage(stage: RolloutStage, plan: Plan, counts: dict[str, int]) -> StageDetail:
    return StageDetail(
        number=stage.number,
        share=stage.share,
        gate=stage.gate,
        dwell_h=stage.dwell_h,
        margins=plan.steps()[stage.number - 1].margins,
        control_from=plan.control_from(stage.number),
        opened_at=stage.opened_at,
        completed_at=stage.completed_at,
        frames=sum(counts.values()),
        counts=counts,
        committed=counts["committed"],
        in_flight=sum(counts[state] for state in IN_FLIGHT),
        failed=sum(counts[state] for state in FAILURES),
        dark=counts["dark"],
        returning=counts["returning"],
        returned=counts["returned"],
    )


def _failures(rollout: Rollout) -> tuple[FailureGroup, ...]:
    failed = rollout.deployments.filter(state__in=[state.value for state in FAILURES])
    totals = failed.order_by().values_list("reason").annotate(n=Count("id")).order_by("-n", "reason")
    groups = []
    for reason, frames in totals:
        rows = failed.filter(Q(reason=reason)).order_by("-updated_at", "frame_id")[:EXAMPLES]
        examples = tuple(
            FailedFrame(frame_id=row.frame_id, state=row.state, detail=row.detail, at=row.updated_at) for row in rows
        )
        groups.append(FailureGroup(reason=reason, frames=frames, examples=examples))
    return tuple(groups)
