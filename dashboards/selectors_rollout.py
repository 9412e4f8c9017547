"""What the rollout page shows beside ota's own detail: lip errors before and after, and the people's clock."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.cache import cache
from django.db import connection
from django.db.models import Count, Exists, Max, OuterRef, Q

from fleet.models import Playback, PowerSample
from ota.models import Rollout
from ota.selectors import StageDetail, standing_offers

CLOCKS_AGREE = timedelta(days=1)
"""People whose time lies nearer to the server's than this live by the same clock."""


@dataclass(frozen=True)
class Returns:
    """How many frames a command gives back what they had; ``stay``: updated ones that had nothing anybody knows of."""

    abort: int
    rollback: int
    stay: int


@dataclass(frozen=True)
class LipFigure:
    """Mean lip error in mm that ``frames`` frames measured under one release, with the mean pose beside it."""

    frames: int
    simulated: int
    lip_mm: float
    mean_pose_mm: float
    limit_mm: float | None


@dataclass(frozen=True)
class LipRow:
    """One segment under the release before and the rollout's own; None where no frame has measured it."""

    segment: str
    before: LipFigure | None
    after: LipFigure | None

    @property
    def mean_pose_mm(self) -> float:
        """The mean pose's error on the same clips: what a mouth that never moves would score."""
        figure = self.after or self.before
        assert figure is not None  # noqa: S101 - a row exists because one of them does
        return figure.mean_pose_mm


_LIPS = """
    SELECT reported.release, lips ->> 'segment', count(*), count(*) FILTER (WHERE frame.simulated),
           avg((lips ->> 'lip_mm')::float), avg((lips ->> 'mean_pose_mm')::float), min((lips ->> 'limit_mm')::float)
    FROM fleet_reportedstate AS reported
    JOIN fleet_frame AS frame ON frame.id = reported.frame_id
    CROSS JOIN LATERAL jsonb_array_elements(reported.lip_errors) AS lips
    WHERE reported.release = ANY(%s) AND reported.state IN ('idle', 'committed', 'trial')
          AND reported.target = CASE reported.state WHEN 'trial' THEN reported.release ELSE '' END
    GROUP BY 1, 2
"""


def lip_rows(rollout: Rollout) -> list[LipRow]:
    """Lip error by segment, from the last trial of every frame that plays one of the two releases now.

    "Before" is the release that most frames of the rollout had, whichever frames still report it, "after" the
    rollout's. A frame that is trying out another release than the one it plays says nothing about that, so it is left
    out; one on probation plays what it tried.
    """
    former = (
        rollout.deployments.exclude(former_release=None)
        .exclude(former_release=rollout.release_id)
        .order_by()
        .values_list("former_release")
        .annotate(frames=Count("id"))
        .order_by("-frames")
        .values_list("former_release", flat=True)
        .first()
    )
    with connection.cursor() as cursor:
        cursor.execute(_LIPS, [[rollout.release_id, *([former] if former else [])]])
        found = {(release, segment): LipFigure(*figures) for release, segment, *figures in cursor.fetchall()}
    segments = sorted({segment for _release, segment in found})
    return [
        LipRow(segment, found.get((former or "", segment)), found.get((rollout.release_id, segment)))
        for segment in segments
    ]


def stage_openings(rollout: Rollout, stages: Iterable[StageDetail]) -> list[tuple[int, datetime]]:
    """When each stage opened on the clock by which people's days are counted: (number, moment).

    Simulated people may live through their days faster than the server. For them a stage opened at the time of the
    newest playback that had been taken in by that moment; one from before the first playback is left out.
    """
    opened = {stage.number: stage.opened_at for stage in stages if stage.opened_at is not None}
    if not rollout.deployments.filter(frame__simulated=True).exists():
        return sorted(opened.items())
    # What had been taken in by a moment that is past does not change: asked once per stage and process.
    keys = {number: f"people-time:{rollout.pk}:{number}:{moment.timestamp()}" for number, moment in opened.items()}
    known = cache.get_many(keys.values())
    missing = {number: moment for number, moment in opened.items() if keys[number] not in known}
    if missing:
        lived = Playback.objects.filter(frame__deployments__rollout=rollout, frame__simulated=True).aggregate(
            **{f"stage_{number}": Max("at", filter=Q(received_at__lte=moment)) for number, moment in missing.items()}
        )
        fresh = {keys[number]: _nearer(lived[f"stage_{number}"], moment) for number, moment in missing.items()}
        cache.set_many(fresh, timeout=None)
        known |= fresh
    return [(number, known[key]) for number, key in sorted(keys.items()) if known[key] is not None]


def _nearer(lived: datetime | None, moment: datetime) -> datetime | None:
    return moment if lived is not None and abs(lived - moment) < CLOCKS_AGREE else lived


def frames_estimating_power(rollout: Rollout) -> int:
    """How many frames of the rollout have no power meter and send an estimate instead."""
    estimate = PowerSample.objects.filter(frame=OuterRef("frame"), estimated=True)
    return rollout.deployments.filter(Exists(estimate)).count()


def returns(rollout: Rollout) -> Returns:
    """How many frames an abort and a rollback would touch now: those that are meant to run the release because of
    this rollout and had another one before."""
    movable = standing_offers(rollout).exclude(former_release=rollout.release_id)
    committed = Q(state="committed")
    return Returns(
        **movable.aggregate(
            abort=Count("id", filter=~committed),
            rollback=Count("id", filter=~committed | Q(former_release__isnull=False)),
            stay=Count("id", filter=committed & Q(former_release=None)),
        )
    )
