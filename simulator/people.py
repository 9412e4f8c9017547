"""Simulated people, pure and seeded: who plays when, watches to the end, complains, and what the frame draws meanwhile.

Everything here is assumed, so every number is a named parameter. What is not assumed is how well the lips move:
completion and complaints depend on the lip error that was really measured on the golden clips, for the household's
segment, under the release its frame plays at that moment. No effect of a release is written down anywhere.

What is not simulated: slideshows, singing, slow frames. Photos are turned and voices are quiet or loud, which frames
say and which changes nothing: no lip error was measured for them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from protocol.clock import DAY_MS
from protocol.messages import Complaint, PlaybackEvent, PowerSample

HOUR_WEIGHTS = (1, 1, 1, 1, 1, 1, 2, 4, 5, 4, 4, 5, 6, 5, 4, 4, 5, 8, 12, 15, 16, 13, 7, 3)
"""How often people play in each hour of the (UTC) day: mostly in the evening."""
UNNUMBERED = 0
MAX_STEP_DAYS = 2
"""Days one call catches up with at most; a process that stood still longer skips what is older."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """The data model. Rates are per playback, power in W, lip errors in mm, times in s."""

    activity_shape: float = 2.0
    activity_scale: float = 2.5
    """Playbacks a day of a household: gamma(2, 2.5), so 5 on average."""
    day_shock_sd: float = 0.10
    """Log-activity that all households of one day share."""

    completion: float = 0.78
    completion_icc: float = 0.10
    """Share of the variance that is between households: Beta(0.78 * 9, 0.22 * 9)."""
    completion_drift_sd: float = 0.10
    """Logit, drawn for each household and day."""
    completion_day_sd: float = 0.05
    """Logit, shared by all households of one day."""

    incident_rate: float = 0.003
    """Complaint incidents at the reference lip error."""
    frailty_shape: float = 0.5
    """Gamma frailty with mean 1: few households make most complaints."""
    complaints_per_incident: float = 2.0
    """Geometric: an annoyed household complains about this many playbacks in a row on average."""

    lip_reference_mm: float = 0.30
    """Lip error at which the rates above hold."""
    incident_factor: float = 8.0
    completion_points: float = 0.04
    bad_lip_mm: float = 0.64
    """At this lip error incidents are ``incident_factor`` times as frequent and completion is ``completion_points``
    lower; log rate and logit are linear in between and beyond, up to ``worst_lip_mm``."""
    worst_lip_mm: float = 0.70
    """Beyond this people notice no further difference."""

    power_w: float = 4.8
    power_frame_sd: float = 0.40
    power_drift_sd: float = 0.08
    """A frame's slow wandering from its mean, redrawn halfway each day."""
    power_day_sd: float = 0.08
    power_noise_sd: float = 0.15
    power_outliers: float = 0.002
    power_outlier_w: float = 3.0

    turned: float = 0.15
    """Share of households whose photo looks aside."""
    quiet: float = 0.20
    loud: float = 0.15
    """Share of households whose voice is so; all others speak normally."""
    usual: float = 0.9
    """Share of a household's playbacks with the photo and the voice it has mostly."""

    voice_log_mean: float = 1.45
    voice_log_sd: float = 0.45
    """Lognormal: 4.7 s of voice on average."""
    video_tail_s: float = 0.6

    def incidents(self, lip_mm: float) -> float:
        """Complaint incidents per playback of an average household."""
        slope = math.log(self.incident_factor) / (self.bad_lip_mm - self.lip_reference_mm)
        return self.incident_rate * math.exp(slope * (min(lip_mm, self.worst_lip_mm) - self.lip_reference_mm))

    def completion_shift(self, lip_mm: float) -> float:
        """What a lip error does to the logit of completion."""
        drop = logit(self.completion) - logit(self.completion - self.completion_points)
        slope = drop / (self.bad_lip_mm - self.lip_reference_mm)
        return -slope * (min(lip_mm, self.worst_lip_mm) - self.lip_reference_mm)


ASSUMED = Assumptions()

PeopleEvent = PlaybackEvent | Complaint | PowerSample


def segment_of(locale: str) -> str:
    """The golden clips' segment whose lip error a household with this locale sees."""
    return "mandarin" if locale.partition("-")[0].partition("_")[0] == "zh" else "base"


def logit(share: float) -> float:
    """Log odds."""
    return math.log(share / (1 - share))


def logistic(value: float) -> float:
    """The share with these log odds."""
    return 1 / (1 + math.exp(-value))


@dataclass(frozen=True, slots=True)
class Day:
    """What all households of one day share."""

    activity: float
    completion: float

    @classmethod
    def of(cls, seed: int, number: int, assumed: Assumptions = ASSUMED) -> "Day":
        """Day ``number`` since 1970."""
        draw = Random(f"{seed}:day:{number}")
        return cls(math.exp(draw.gauss(0, assumed.day_shock_sd)), draw.gauss(0, assumed.completion_day_sd))


@dataclass(slots=True)
class Household:
    """The people in front of one frame. The same seed, name and calls give the same life."""

    seed: int
    name: str
    now_ms: int
    """Simulated time up to which they have lived."""
    assumed: Assumptions = ASSUMED
    activity: float = field(init=False)
    completion: float = field(init=False)
    frailty: float = field(init=False)
    power: float = field(init=False)
    pose: str = field(init=False)
    loudness: str = field(init=False)
    _draw: Random = field(init=False)
    _plan: list[int] = field(init=False, default_factory=list)
    _plan_day: int = field(init=False, default=-1)
    _completion_today: float = field(init=False, default=0.0)
    _power_today: float = field(init=False, default=0.0)
    _drift: float = field(init=False, default=0.0)
    _annoyed: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        assumed = self.assumed
        draw = Random(f"{self.seed}:{self.name}")
        # Another stream than the traits', and another one for each day they begin on: history does not repeat itself.
        self._draw = Random(f"{self.seed}:{self.name}:{self.now_ms // DAY_MS}")
        self.activity = draw.gammavariate(assumed.activity_shape, assumed.activity_scale)
        spread = 1 / assumed.completion_icc - 1
        share = draw.betavariate(assumed.completion * spread, (1 - assumed.completion) * spread)
        self.completion = logit(min(max(share, 0.001), 0.999))
        self.frailty = draw.gammavariate(assumed.frailty_shape, 1 / assumed.frailty_shape)
        self.power = draw.gauss(assumed.power_w, assumed.power_frame_sd)
        self.pose, self.loudness = _pose(draw, assumed), _loudness(draw, assumed)

    def live(self, until_ms: int, release: str | None, lip_mm: float | None) -> Iterator[PeopleEvent]:
        """What happens up to ``until_ms`` while the frame plays ``release``, whose lip error for these people is
        ``lip_mm``. A blank frame (None) plays nothing. Events are in order and not yet numbered."""
        self.now_ms = max(self.now_ms, until_ms - MAX_STEP_DAYS * DAY_MS)
        while self.now_ms < until_ms:
            day = self.now_ms // DAY_MS
            if day != self._plan_day:
                self._begin_day(day)
            end = min(until_ms, (day + 1) * DAY_MS)
            while self._plan and self._plan[-1] < end:
                at = self._plan.pop()
                if at >= self.now_ms and release is not None and lip_mm is not None:
                    yield from self._play(at, release, lip_mm)
            self.now_ms = end

    def _begin_day(self, number: int) -> None:
        draw, assumed = self._draw, self.assumed
        shared = Day.of(self.seed, number, assumed)
        self._plan_day = number
        count = _poisson(draw, self.activity * shared.activity)
        hours = draw.choices(range(24), HOUR_WEIGHTS, k=count)
        times = (number * DAY_MS + hour * 3_600_000 + draw.randrange(3_600_000) for hour in hours)
        self._plan = sorted(times, reverse=True)
        self._completion_today = shared.completion + draw.gauss(0, assumed.completion_drift_sd)
        self._drift = self._drift / 2 + draw.gauss(0, assumed.power_drift_sd * math.sqrt(0.75))
        self._power_today = self.power + self._drift + draw.gauss(0, assumed.power_day_sd)

    def _play(self, at: int, release: str, lip_mm: float) -> Iterator[PeopleEvent]:
        draw, assumed = self._draw, self.assumed
        voice = min(max(draw.lognormvariate(assumed.voice_log_mean, assumed.voice_log_sd), 1.0), 60.0)
        video = voice + assumed.video_tail_s
        odds = self.completion + self._completion_today + assumed.completion_shift(lip_mm)
        completed = draw.random() < logistic(odds)
        watched = video if completed else video * draw.uniform(0.05, 0.95)
        playback_id = f"{draw.getrandbits(128):032x}"
        yield PlaybackEvent(
            seq=UNNUMBERED,
            at=at,
            release=release,
            playback_id=playback_id,
            mode="talking",
            voice_s=round(voice, 2),
            video_s=round(video, 2),
            watched_s=round(watched, 2),
            completed=completed,
            context=self._context(),
        )
        yield PowerSample(
            seq=UNNUMBERED, at=at, release=release, window_s=round(video, 2), total_w=round(self._watts(), 3)
        )
        if draw.random() < assumed.incidents(lip_mm) * self.frailty:
            self._annoyed += _geometric(draw, assumed.complaints_per_incident)
        if self._annoyed:
            self._annoyed -= 1
            yield Complaint(seq=UNNUMBERED, at=at + int(watched * 1000), release=release, playback_id=playback_id)

    def _context(self) -> dict[str, str]:
        draw, assumed = self._draw, self.assumed
        if draw.random() < assumed.usual:
            return {"pose": self.pose, "loudness": self.loudness}
        return {"pose": _pose(draw, assumed), "loudness": _loudness(draw, assumed)}

    def _watts(self) -> float:
        draw, assumed = self._draw, self.assumed
        watts = self._power_today + draw.gauss(0, assumed.power_noise_sd)
        if draw.random() < assumed.power_outliers:
            watts += assumed.power_outlier_w
        return max(watts, 0.1)


def _pose(draw: Random, assumed: Assumptions) -> str:
    return "turned" if draw.random() < assumed.turned else "frontal"


def _loudness(draw: Random, assumed: Assumptions) -> str:
    at = draw.random()
    return "quiet" if at < assumed.quiet else "loud" if at > 1 - assumed.loud else "normal"


def _poisson(draw: Random, mean: float) -> int:
    """Knuth's method; means here are below a hundred."""
    limit, product, count = math.exp(-mean), draw.random(), 0
    while product > limit:
        product *= draw.random()
        count += 1
    return count


def _geometric(draw: Random, mean: float) -> int:
    """1, 2, 3, ... with this mean."""
    if mean <= 1:
        return 1
    return 1 + int(math.log(1 - draw.random()) / math.log(1 - 1 / mean))
