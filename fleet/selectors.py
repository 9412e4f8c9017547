"""Reading frames: for the REST API and the console. Nothing here writes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone

from fleet.groups import frames_in
from fleet.models import Claim, Frame, FrameCertificate, FrameDay, FrameGroup, HealthEvent

SEEN_RECENTLY = timedelta(minutes=5)
DARK_AFTER = timedelta(hours=24)
NEWEST_EVENTS = 10
NEWEST_CERTIFICATES = 5


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """How many frames are in service; ``seen`` took part in the last SEEN_RECENTLY, ``awaited`` are not born yet."""

    total: int
    simulated: int
    seen: int
    awaited: int


@dataclass(frozen=True, slots=True)
class ReleaseCount:
    """How many frames say they run this release (digest, "" for none or for no report yet)."""

    release: str
    frames: int
    simulated: int


@dataclass(frozen=True, slots=True)
class DaySums:
    """One day (UTC) of all frames: what charts of completion, complaints and power are drawn from."""

    day: date
    playbacks: int
    completed: int
    complaints: int
    power_sum_w: float
    power_samples: int

    @property
    def completion_rate(self) -> float | None:
        """Share of playbacks watched to their end, None without playbacks."""
        return self.completed / self.playbacks if self.playbacks else None

    @property
    def complaint_rate(self) -> float | None:
        """Complaints for each playback, None without playbacks."""
        return self.complaints / self.playbacks if self.playbacks else None

    @property
    def mean_power_w(self) -> float | None:
        """Mean of the power samples in watts, None without samples."""
        return self.power_sum_w / self.power_samples if self.power_samples else None


@dataclass(frozen=True, slots=True)
class Overview:
    """The console's first page as far as frames go."""

    frames: FrameCounts
    releases: Sequence[ReleaseCount]
    health: Sequence[HealthEvent]
    days: Sequence[DaySums]


@dataclass(frozen=True, slots=True)
class HeldCertificate:
    """``state`` is good, replaced (good for some days beside its successor), ended, expired or revoked."""

    row: FrameCertificate
    state: str


@dataclass(frozen=True, slots=True)
class Identity:
    """One frame's newest certificates, how many of all are not revoked, and the claim that it was or will be born
    with."""

    certificates: Sequence[HeldCertificate]
    unrevoked: int
    claim: Claim | None


def frame_counts(now: datetime | None = None) -> FrameCounts:
    """Counts over all frames that are not retired."""
    since = (now or timezone.now()) - SEEN_RECENTLY
    active = Q(lifecycle=Frame.Lifecycle.ACTIVE)
    counted = Frame.objects.aggregate(
        total=Count("id", filter=active),
        simulated=Count("id", filter=active & Q(simulated=True)),
        seen=Count("id", filter=active & Q(last_seen__gte=since)),
        awaited=Count("id", filter=Q(lifecycle=Frame.Lifecycle.AWAITED)),
    )
    return FrameCounts(**counted)


def frames_by_release() -> list[ReleaseCount]:
    """Frames by the release they say they run, most frames first."""
    rows = (
        Frame.objects.filter(lifecycle=Frame.Lifecycle.ACTIVE)
        .order_by()
        .values("reported__release")
        .annotate(frames=Count("id"), simulated_frames=Count("id", filter=Q(simulated=True)))
    )
    sums: dict[str, list[int]] = {}
    for row in rows:  # no report and a report of no release are the same to people
        found = sums.setdefault(row["reported__release"] or "", [0, 0])
        found[0] += row["frames"]
        found[1] += row["simulated_frames"]
    counted = [ReleaseCount(release, *found) for release, found in sums.items()]
    return sorted(counted, key=lambda one: (-one.frames, one.release))


def newest_health(limit: int = 20) -> list[HealthEvent]:
    """The newest HealthEvents of all frames, by when they came in."""
    return list(HealthEvent.objects.select_related("frame").order_by("-received_at", "-id")[:limit])


def day_sums(days: int = 30) -> list[DaySums]:
    """The newest ``days`` days that have telemetry, oldest first; simulated people's days are on their own clock."""
    rows = (
        FrameDay.objects.values_list("day")
        .annotate(Sum("playbacks"), Sum("completed"), Sum("complaints"), Sum("power_sum_w"), Sum("power_samples"))
        .order_by("-day")[:days]
    )
    return [DaySums(*row) for row in reversed(rows)]


def overview(now: datetime | None = None) -> Overview:
    """Everything about frames on the console's first page, in a handful of queries."""
    return Overview(frame_counts(now), frames_by_release(), newest_health(), day_sums())


def list_frames(
    *,
    group: FrameGroup | None = None,
    q: str = "",
    release: str | None = None,
    locale: str = "",
    state: str = "",
    lifecycle: str = "",
) -> QuerySet[Frame]:
    """Frames by id, each with its reported state. ``q`` is a part of the id, ``release`` a digest ("" for frames that
    run none), ``state`` an installer state, ``lifecycle`` one of Frame.Lifecycle ("" for all that are not retired).
    Raises Refused when the group's query cannot be read."""
    frames = Frame.objects.all() if group is None else frames_in(group)
    frames = frames.filter(lifecycle=lifecycle) if lifecycle else frames.exclude(lifecycle=Frame.Lifecycle.RETIRED)
    if q:
        frames = frames.filter(id__contains=q)
    if release is not None:
        frames = frames.filter(reported__release=release) if release else frames.filter(_runs_none())
    if locale:
        frames = frames.filter(locale=locale)
    if state:
        frames = frames.filter(reported__state=state)
    return frames.select_related("reported").order_by("id")


def frame_detail(frame_id: str) -> tuple[Frame, list[HealthEvent]] | None:
    """One frame with its reported state and its newest HealthEvents, None when it is not enrolled."""
    frame = Frame.objects.select_related("reported", "household").filter(pk=frame_id).first()
    if frame is None:
        return None
    newest = HealthEvent.objects.filter(frame=frame).order_by("-received_at", "-id")[:NEWEST_EVENTS]
    return frame, list(newest)


def frames_by_authority() -> dict[str, int]:
    """Id of an authority -> frames in service whose newest certificate it signed. A frame whose newest one has lapsed
    counts too: it comes back by proof of its key."""
    newest = (
        FrameCertificate.objects.filter(revoked_at=None, frame__lifecycle=Frame.Lifecycle.ACTIVE)
        .order_by("frame_id", "-issued_at", "-id")
        .distinct("frame_id")
        .values_list("authority", flat=True)
    )
    return dict(Counter(newest.iterator()))


def identity(frame: Frame, now: datetime | None = None) -> Identity:
    """Who may speak in the frame's name: its certificates, newest first, and its claim."""
    now = now or timezone.now()
    rows = list(FrameCertificate.objects.filter(frame=frame).order_by("-issued_at", "-id")[:NEWEST_CERTIFICATES])
    return Identity(
        [HeldCertificate(row, _certificate_state(row, frame, now)) for row in rows],
        FrameCertificate.objects.filter(frame=frame, revoked_at=None).count(),
        Claim.objects.filter(frame=frame).first(),
    )


def _certificate_state(row: FrameCertificate, frame: Frame, now: datetime) -> str:
    if row.revoked_at is not None:
        return "revoked"
    if row.not_after <= now:
        return "expired"
    if row.good_until <= now or frame.lifecycle != Frame.Lifecycle.ACTIVE:
        return "ended"
    return "good" if row.good_until == row.not_after else "replaced"


def _runs_none() -> Q:
    return Q(reported=None) | Q(reported__release="")
