"""What the console's pages show beside the selectors of fleet and ota, joined from both. Nothing here writes."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Sum

from fleet import clock
from fleet.contexts import context_words
from fleet.groups import CONTEXT_DAYS
from fleet.models import ContextDay, Frame, FrameGroup, HealthEvent, ReportedState
from fleet.selectors import day_sums, frames_by_release
from ota.selectors import release_names

NEWEST_DAYS = 14
NEWEST_TROUBLES = 12


@dataclass(frozen=True)
class RunningRelease:
    """How many frames say that they run a release; ``name`` is empty for one that was never pushed here."""

    digest: str
    name: str
    frames: int
    simulated: int


@dataclass(frozen=True)
class Trouble:
    """Why a frame refused, went back or complained: one sentence of the frame's or the bridge's own.

    ``state`` is the frame's state for what it reports still, empty for an event; ``reason`` is the reason or the
    event's kind.
    """

    at: datetime
    frame_id: str
    simulated: bool
    state: str
    reason: str
    sentence: str


@dataclass(frozen=True)
class DayFigures:
    """One day (UTC) over all frames. Rates are None where nothing was measured; power is a mean in W."""

    day: date
    playbacks: int
    completion_rate: float | None
    complaint_rate: float | None
    power_w: float | None


def running_releases() -> list[RunningRelease]:
    """Frames by the release they say they run, most frames first; "" stands for none."""
    rows = frames_by_release()
    names = release_names(row.release for row in rows)
    return [RunningRelease(row.release, names.get(row.release, ""), row.frames, row.simulated) for row in rows]


def fleet_days() -> list[DayFigures]:
    """The newest days on which frames measured something, oldest first."""
    return [
        DayFigures(row.day, row.playbacks, row.completion_rate, row.complaint_rate, row.mean_power_w)
        for row in day_sums(NEWEST_DAYS)
    ]


def newest_troubles(frame: Frame | None = None, limit: int = NEWEST_TROUBLES) -> list[Trouble]:
    """The newest refusals and health events, newest first; of all frames, or of one."""
    refusals = ReportedState.objects.exclude(failure_reason="").select_related("frame").order_by("-received_at")
    events = HealthEvent.objects.select_related("frame").order_by("-received_at")
    if frame is not None:
        refusals, events = refusals.filter(frame=frame), events.filter(frame=frame)
    # A frame that refuses says so twice, in its state and as an event: shown once, with its state.
    found = [
        Trouble(row.received_at, row.frame_id, row.frame.simulated, row.state, row.failure_reason, row.failure_detail)
        for row in refusals[:limit]
    ]
    said = {(trouble.frame_id, trouble.reason, trouble.sentence) for trouble in found}
    found += [
        Trouble(row.received_at, row.frame_id, row.frame.simulated, "", row.kind, row.detail)
        for row in events[:limit]
        if (row.frame_id, row.kind, row.detail) not in said
    ]
    return sorted(found, key=lambda trouble: trouble.at, reverse=True)[:limit]


def group_named(name: str) -> FrameGroup | None:
    return FrameGroup.objects.filter(name=name).first()


def locales() -> list[str]:
    """The locales that frames are set to."""
    return list(Frame.objects.order_by("locale").values_list("locale", flat=True).distinct())


def usual_contexts(frame: Frame) -> list[tuple[str, str]]:
    """The context that at least half of the frame's playbacks of late had, key by key, as groups ask for it."""
    since = clock.now().date() - timedelta(days=CONTEXT_DAYS)
    counted: dict[str, dict[str, int]] = {}
    rows = ContextDay.objects.filter(frame=frame, day__gte=since).order_by().values_list("context")
    for context, playbacks in rows.annotate(n=Sum("playbacks")):
        for key, value in context_words(context).items():
            counted.setdefault(key, {})[value] = counted.get(key, {}).get(value, 0) + playbacks
    usual = {key: max(values.items(), key=lambda item: item[1]) for key, values in sorted(counted.items())}
    return [
        (key, value) for key, (value, playbacks) in usual.items() if 2 * playbacks >= sum(counted[key].values()) > 0
    ]
