"""Every constant of the analysis, named, with its default and why. Nothing in this package holds a number of its own.

What the defaults do to simulated fleets stands in benchmarks/canary/results.json (``make bench-canary``). The weights
add up to 0.85: simulated rollouts come so close to what alpha allows that the rest of it is better left unspent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

COMPLETION, POWER, LATENCY, FPS = "completion", "power", "latency", "fps"
COMPLAINT, BREAKAGE, DARK = "complaint", "breakage", "dark"
MARGINED = (COMPLETION, POWER, LATENCY, FPS, COMPLAINT)
"""Metrics of which a stage can ask non-inferiority."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity with a value in every playback.

    ``harm`` is +1 where more is worse, -1 where less is worse. ``size`` is the effect that is looked for and ``tau``
    how far from it effects may lie, in the measure's unit: center and scale of the normal mixture (``eprocess``).
    ``weight`` is its part in the verdict. ``prior`` is how many playbacks of a frame's own history the fleet's mean
    counts for; None: refit from the data by the intraclass correlation. ``clip`` bounds a frame-day's mean deviation
    from the frame's own history, None for no bound.
    """

    name: str
    harm: int
    size: float
    tau: float
    weight: float
    prior: float | None
    clip: float | None


@dataclass(frozen=True, slots=True)
class RareEvent:
    """Something that hits few frames, judged by each frame's first one. ``weight`` is its part in the verdict."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage asks before the next one opens: hours of ``dwell_h``, and that no measure is worse than its margin
    (completion: points as a fraction; power: W; latency, fps: natural logs; complaint: ratio). No margin: smoke."""

    share: float
    dwell_h: float
    margins: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and self.dwell_h >= 0):
            raise ValueError("A stage's share is above 0 and at most 1, and its dwell is not negative.")
        if not all(margin > 0 for margin in self.margins.values()):
            raise ValueError("A margin says how much worse is still acceptable: give a number above 0.")
        if not self.margins.get(COMPLAINT, 2.0) > 1:
            raise ValueError("A margin for complaints is a ratio above 1, such as 2 for twice as many.")


MEASURES = (
    # Completion, a fraction of playbacks. 0.04: drops of two to five points are what adapters were seen to do.
    Measure(COMPLETION, -1, size=0.04, tau=0.02, weight=0.2, prior=None, clip=None),
    # W. 0.10: half of what a household notices as warmth. Frames differ by 0.4 W, playbacks of one by 0.15 W, so the
    # fleet's mean is worth (0.15 / 0.4)^2, about 0.15 playbacks. 1 W of deviation is a broken meter, not a release.
    # Meters are so exact that exposure, not evidence, is what power waits for: a small weight is enough.
    Measure(POWER, +1, size=0.10, tau=0.05, weight=0.1, prior=0.15, clip=1.0),
    # Natural logs of ms and of frames per second: 0.05 is about 5 %.
    Measure(LATENCY, +1, size=0.05, tau=0.025, weight=0.05, prior=0.15, clip=1.0),
    Measure(FPS, -1, size=0.05, tau=0.025, weight=0.05, prior=0.15, clip=1.0),
)
EVENTS = (
    # Completion and complaints are what a release does to people, and what needs days to be seen: half of the weight,
    # and more of it to the slower.
    RareEvent(COMPLAINT, weight=0.25),
    # A crash or a failed installation, whichever comes first. Broken frames are so rare that few of them suffice.
    RareEvent(BREAKAGE, weight=0.1),
    RareEvent(DARK, weight=0.1),
)


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it. Checked when made: weights above 0 that add up to 1 at most."""

    measures: tuple[Measure, ...] = MEASURES
    events: tuple[RareEvent, ...] = EVENTS
    alpha: float = 0.05
    """Chance that a harmless release is ever rolled back, however often one looks; and that a release exactly on a
    margin is ever promoted. Intervals have coverage 1 - alpha at all times together."""

    icc: float = 0.10
    """Intraclass correlation of completion within a frame, where the history is too short to tell."""
    icc_bounds: tuple[float, float] = (0.01, 0.50)
    """A refit is held within these: frames neither all alike nor each its own world."""
    icc_frames: int = 30
    """Frames with at least two past playbacks before the ICC is refitted."""

    frailty: float = 2.0
    """Variance of frames' complaint rates about their mean (mean 1), where the history is too short to tell."""
    frailty_bounds: tuple[float, float] = (0.1, 20.0)
    """A refit of it is held within these."""
    frailty_events: int = 30
    """Past complaint-days in the fleet before it is refitted."""

    hazard_ratios: tuple[float, ...] = (2.0, 4.0, 8.0)
    """Effects that tests of events average over: each finds those from half to twice as large nearly as soon as a test
    made for them, so that more of them would only thin the average out."""
    risk_cuts: tuple[float, ...] = (0.40, 0.70, 0.90)
    """Quantiles of the predicted complaint rate that part the logrank test's strata."""
    complaint_tau: float = 1.0
    """Departure of the complaint ratio from 1 for which its interval is narrowest."""
    complaint_expected: float = 3.0
    """Complaint-days expected among canaries before a benefit's interval is given."""

    margin_spread: float = 1 / 3
    """tau of non-inferiority in parts of the margin: a release that does nothing lies a whole margin from it, one that
    does a third of it, for better or worse, is found nearly as soon."""

    variance_rounds: int = 3
    """Rounds of reweighting when the variance of controls is fitted."""
    comparable_frames: int = 10
    """Controls with a value before their variance is believed."""
    benefit_frames: int = 40
    """Controls with a value before a benefit's interval is given: a segment's holdback can be a handful of frames, and
    from 20 the interval missed the truth in 7 % of simulated runs."""

    canary_playbacks: int = 100
    """Playbacks under the release before the asymptotic tests count."""
    canary_frames: int = 20
    """Canaries that must have played ``frame_playbacks`` under the release; or ``canary_share`` of them, if fewer."""
    canary_share: float = 0.8
    frame_playbacks: int = 3

    segment_frames: int = 20
    """Frames inside a segment, and outside it, before its complaints are compared."""
    segment_expected: float = 3.0
    """Complaint-days that the rest's rate makes of it, before they are compared."""
    segment_strata: int = 10
    """Groups of frames that play about equally often, within which complaints are taken to vary alike."""
    false_discovery: float = 0.05
    """Share of falsely notable segments among the notable ones, on average and at most."""

    ratio_evidence: float = 1000.0
    """E-value of a wrong sample ratio in one stratum that stops everything: high, for it is looked at in every
    stratum and every hour."""
    ratio_strength: float = 100.0
    """How many frames the expected ratio is worth in the prior of that test: departures of some points."""
    contamination: float = 0.05
    """Share of controls that played the release above which arms are not what they are called."""

    dark_after_h: float = 24.0
    """Silence that makes a frame dark."""
    stale_after_h: float = 6.0
    """Age of the newest telemetry above which nobody is judged: two looks of 3 h missed."""
    last_day: float = 28.0
    """From then on a person decides."""

    preview_runs: int = 400
    """Rollouts that are drawn for a preview: a share is known to within five points."""
    preview_decided: float = 0.8
    """Share of harmless releases that must be promoted by the last day for the group to be large enough."""

    def __post_init__(self) -> None:
        weights = self.weights()
        if len(weights) != len(self.measures) + len(self.events):
            raise ValueError("Every metric is weighed once: remove the second of the same name.")
        if not all(weight > 0 for weight in weights.values()) or not sum(weights.values()) <= 1 + 1e-9:
            raise ValueError("Weights must be above 0 and add up to 1 at most: lower some of them.")
        if not 0 < self.alpha < 1:
            raise ValueError("Alpha must lie between 0 and 1: 0.05 is usual.")

    def weights(self) -> dict[str, float]:
        """w_k of every metric."""
        measures = {measure.name: measure.weight for measure in self.measures}
        return measures | {event.name: event.weight for event in self.events}


STAGES = (
    Stage(0.01, dwell_h=24),
    Stage(0.05, dwell_h=48, margins={COMPLETION: 0.03, POWER: 0.10, COMPLAINT: 4.0}),
    Stage(0.25, dwell_h=48, margins={COMPLETION: 0.02, POWER: 0.05, COMPLAINT: 2.0}),
    Stage(1.00, dwell_h=168),
)
"""For about 2,000 frames and more."""

SMALL_FLEET_STAGES = (
    Stage(0.10, dwell_h=48, margins={COMPLETION: 0.05, POWER: 0.10, COMPLAINT: 4.0}),
    Stage(0.25, dwell_h=48, margins={COMPLETION: 0.05, POWER: 0.10, COMPLAINT: 4.0}),
    Stage(1.00, dwell_h=168),
)
"""For about 600 to 2,000 frames: with the other table they would wait for weeks. Below, no test can decide."""
