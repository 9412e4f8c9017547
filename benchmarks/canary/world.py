"""Simulated people: a fleet's past and its playbacks from the start of a rollout on, hour by hour.

Per frame: activity (playbacks a day) is gamma distributed; completion beta distributed with an intraclass correlation,
then drifted on the logit since its past; complaint incidents come with a gamma frailty and bring several complaints, at
this and the following playbacks; power differs between frames, drifts, and varies by day and by playback, with a few
outliers. Days shock everybody alike. Evenings are busy. Nothing here was measured on frames: these are the assumptions
under which rollouts are judged.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ota.domain.analysis.policy import COMPLETION, FPS, LATENCY, POWER
from ota.domain.analysis.table import FloatArray, IntArray, Sums

BY_HOUR = (1, 1, 1, 1, 1, 1, 2, 4, 5, 4, 4, 4, 5, 4, 3, 3, 4, 6, 10, 14, 15, 12, 6, 2)
"""Playbacks by local hour, relative."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A quantity with a value in every playback: mean, and standard deviations between frames, of a frame's drift since
    its past, of a day of a frame, of a playback; the share of outliers and their deviation."""

    mean: float
    between: float
    drift: float
    daily: float
    playback: float
    outliers: float = 0.0
    outlier: float = 0.0


@dataclass(frozen=True, slots=True)
class Model:
    """What is assumed of a fleet. Rates are per playback unless said."""

    frames: int = 2300
    hardware: tuple[float, ...] = (0.7, 0.3)
    """Shares of the hardware strata."""
    start_hour: int = 0
    """Local hour at which rollouts start."""

    activity_shape: float = 2.0
    activity_scale: float = 2.5
    """Playbacks a day: gamma(2, 2.5), a mean of 5."""
    day_activity: float = 0.10
    """Standard deviation of the log of a day's activity, common to all."""

    completion: float = 0.78
    icc: float = 0.10
    drift: float = 0.10
    """Standard deviation of a frame's logit of completion between its past and now."""
    day_shock: float = 0.10
    """The same of a day, common to all frames of a hardware stratum."""

    incidents: float = 0.0015
    """With two complaints each, 0.3 % of playbacks are complained about."""
    frailty_shape: float = 0.5
    """Of the gamma distribution of frames' incident rates (mean 1): variance 2."""
    complaints: float = 2.0
    """Complaints an incident, on average (geometric), one at each of the next playbacks."""

    power: Logged = Logged(4.8, 0.4, 0.08, 0.08, 0.15, outliers=0.002, outlier=3.0)  # W
    latency: Logged = Logged(4.8, 0.15, 0.02, 0.02, 0.10)  # log ms
    fps: Logged = Logged(3.2, 0.02, 0.005, 0.005, 0.02)  # log frames per second

    breakages: float = 0.0005
    """Crashes and failed installations per frame and day."""
    silences: float = 0.001
    """Beginnings of a silence, per frame and day ..."""
    silence_h: float = 48.0
    """... and how long it is. What happened meanwhile is reported afterwards."""

    history_days: int = 90
    """Past from which complaint rates are known ..."""
    baseline_days: int = 28
    """... and from which measures are."""


HARDER = Model(icc=0.2, frailty_shape=0.25, complaints=4.0)
"""Frames differ more, a few complain most, and in longer bursts."""
FREQUENT = Model(incidents=0.003)
"""Twice as many incidents: what is more often seen is sooner decided."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a release does to a frame that has it; ``share`` of frames are affected, drawn independently of arms."""

    completion: float = 0.0
    """Added to the chance of being watched to the end, on average over all frames."""
    complaints: float = 1.0
    """Times as many incidents."""
    power: float = 0.0
    """W."""
    share: float = 1.0
    broken: float = 0.0
    """Share of canaries that fail to install."""
    silent: float = 0.0
    """Share of canaries that fall silent, for good."""


@dataclass(frozen=True, slots=True, eq=False)
class Playbacks:
    """One day's, ascending in time. ``done`` is uniform in [0, 1): watched to the end if below the frame's chance;
    ``incident`` likewise. ``hour`` counts from the rollout's start."""

    frame: IntArray
    hour: IntArray
    done: FloatArray
    incident: FloatArray
    logged: dict[str, FloatArray]


class World:
    """One fleet: traits, its past, and day after day what it plays."""

    def __init__(self, model: Model, random: np.random.Generator) -> None:
        self.model, self.random = model, random
        n = model.frames
        self.hardware: IntArray = random.choice(len(model.hardware), n, p=model.hardware).astype(np.int64)
        self.activity = random.gamma(model.activity_shape, model.activity_scale, n)
        prior = 1 / model.icc - 1
        was = np.clip(random.beta(model.completion * prior, (1 - model.completion) * prior, n), 1e-6, 1 - 1e-6)
        self._logit = np.log(was / (1 - was)) + random.normal(0, model.drift, n)
        self.incidents = model.incidents * random.gamma(model.frailty_shape, 1 / model.frailty_shape, n)
        self.logs = {POWER: model.power, LATENCY: model.latency, FPS: model.fps}
        usual = {name: random.normal(log.mean, log.between, n) for name, log in self.logs.items()}
        self.history, self.history_complaints = self._past(was, usual)
        self._now = {name: usual[name] + random.normal(0, log.drift, n) for name, log in self.logs.items()}
        self._hours = np.roll(np.array(BY_HOUR, dtype=np.float64), -model.start_hour)
        self._hours /= self._hours.sum()
        self.breaks_h = random.exponential(24 / model.breakages, n)
        self.silent_h = random.exponential(24 / model.silences, n)

    def _past(self, completes: FloatArray, usual: dict[str, FloatArray]) -> tuple[dict[str, Sums], FloatArray]:
        """Sums of the baseline's days, and complaint-days of the whole past."""
        model, random, n = self.model, self.random, self.model.frames
        owed = np.zeros(n)  # complaints that incidents still bring
        complaint_days, plays = np.zeros(n), np.zeros(n)
        for day in range(model.history_days):
            played = random.poisson(self.activity)
            begun = random.binomial(played, np.minimum(self.incidents, 1.0))
            owed += self.complaints(begun)
            complains = (owed > 0) & (played > 0)
            complaint_days += complains
            owed -= np.minimum(owed, played) * complains
            if day >= model.history_days - model.baseline_days:
                plays += played
        sums = {COMPLETION: Sums(random.binomial(plays.astype(np.int64), completes).astype(np.float64), plays)}
        for name, log in self.logs.items():
            spread = np.sqrt(plays * (log.playback**2 + log.outliers * log.outlier**2 + log.daily**2))
            sums[name] = Sums(plays * usual[name] + spread * random.normal(0, 1, n), plays)
        return sums, complaint_days

    def complaints(self, incidents: NDArray[np.int64]) -> FloatArray:
        """How many complaints so many incidents bring, one number for each entry."""
        total = np.zeros(len(incidents))
        some = np.flatnonzero(incidents)
        # A sum of geometric numbers is negative binomial, beyond the one that each has at least.
        more = self.random.negative_binomial(incidents[some], 1 / self.model.complaints)
        total[some] = incidents[some] + more
        return total

    def completes(self, day_shock: FloatArray) -> FloatArray:
        """Each frame's chance to be watched to the end, on a day that moves hardware strata by ``day_shock``."""
        return np.asarray(1 / (1 + np.exp(-self._logit - day_shock[self.hardware])))

    def shocks(self) -> FloatArray:
        """A day's shock to completion, by hardware stratum."""
        return self.random.normal(0, self.model.day_shock, len(self.model.hardware))

    def playbacks(self, day: int) -> Playbacks:
        """Those of day ``day`` (24 hours from the start); call once for each day, ascending."""
        model, random = self.model, self.random
        played = random.poisson(self.activity * np.exp(random.normal(0, model.day_activity)))
        frame = np.repeat(np.arange(model.frames), played)
        hour = random.choice(24, len(frame), p=self._hours)
        order = np.argsort(hour, kind="stable")
        frame, hour = frame[order], hour[order]
        logged = {}
        for name, log in self.logs.items():
            usual = self._now[name] + random.normal(0, log.daily, model.frames)
            value = usual[frame] + random.normal(0, log.playback, len(frame))
            odd: IntArray = np.flatnonzero(random.random(len(frame)) < log.outliers)
            value[odd] += random.normal(0, log.outlier, len(odd))
            logged[name] = value
        return Playbacks(frame, hour + 24 * day, random.random(len(frame)), random.random(len(frame)), logged)
