"""What the rollout page shows beside ota's own detail: lip errors before and after, and what commands would touch."""

from dataclasses import dataclass

from django.db import connection
from django.db.models import Count, Exists, OuterRef, Q

from fleet.groups import frames_in
from fleet.models import FrameGroup, PowerSample
from ota.domain.rollout import RolloutState
from ota.models import Rollout
from ota.selectors_offers import standing_offers
from protocol.errors import Refused


@dataclass(frozen=True)
class Returns:
    """How many frames a command gives back what they had; ``stay``: updated ones that had nothing anybody knows of;
    ``group``: those that a draft would take."""

    abort: int
    rollback: int
    stay: int
    group: int = 0


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
        group=_unpinned(rollout.group) if rollout.state == RolloutState.DRAFT else 0,
        **movable.aggregate(
            abort=Count("id", filter=~committed),
            rollback=Count("id", filter=~committed | Q(former_release__isnull=False)),
            stay=Count("id", filter=committed & Q(former_release=None)),
        ),
    )


def _unpinned(group: FrameGroup) -> int:
    try:
        return frames_in(group).filter(pin=None).count()
    except Refused:  # the group's query cannot be read: starting says so
        return 0
