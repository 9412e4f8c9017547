"""From evidence to a verdict, at every look.

    total = sum_k w_k E_k,   sum_k w_k <= 1
    ROLLBACK  if total >= 1/alpha; the reason is the largest w_k E_k
    PROMOTE   if every non-inferiority E of the stage >= 1/alpha at once, and the dwell is met
    HOLD      otherwise, with the first reason that applies

| symbol | meaning |
| --- | --- |
| E_k | harm e-process of metric k: normal mixture for measures, logrank for rare events; complaints have both kinds |
| w_k | weight of metric k (``Policy``) |
| alpha | chance of ever rolling back a harmless release (``Policy.alpha``) |

An average of e-processes is one, however they depend on each other. A term that does not count yet (too little
exposure) or could not be computed is 0, never more: that can delay a rollback, never cause one.

Arms that are not what they are called and stale telemetry stop every verdict, for nothing can be compared then. A
metric that is missing stops promotion only: a broken meter must not shield a release that harms.
Non-inferiority needs no correction for the number of tests, since all of them must succeed.

Sources: Vovk, Wang, "E-values: calibration, combination and applications" (averages under any dependence); Ville's
inequality; Schultzberg, Ankargren, Franberg, "Risk-aware product decisions in A/B tests with multiple metrics".
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from ota.domain.analysis.exposure import Exposure
from ota.domain.analysis.policy import Policy, Stage
from ota.domain.analysis.table import HOURS


class Decision(StrEnum):
    """What the evidence asks for."""

    ROLLBACK = "rollback"
    PROMOTE = "promote"
    HOLD = "hold"


class Reason(StrEnum):
    """Why, in the order in which they are looked at."""

    RATIO_MISMATCH = "ratio_mismatch"
    """More or fewer canaries than were meant."""
    CONTAMINATED = "contaminated"
    """Controls play the release: arms are swapped or leak."""
    STALE = "stale"
    """No fresh telemetry from anybody."""
    HARM = "harm"
    """Roll back: ``Verdict.metrics`` names the metric."""
    MISSING = "missing"
    """Metrics that could not be computed."""
    LITTLE_EXPOSURE = "little_exposure"
    """Too few canaries really played the release."""
    DWELL = "dwell"
    """The stage has not been open for long enough."""
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"
    """Neither harm nor harmlessness is shown."""
    TIME_IS_UP = "time_is_up"
    """As before, and the last day has come: a person decides."""
    HARMLESS = "harmless"
    """Promote: everything the stage asks for is shown."""


@dataclass(frozen=True, slots=True)
class MetricEvidence:
    """One metric at one look. None: nothing to say yet. Estimates are in the measure's unit, or a ratio for complaints;
    the interval holds at all times together. ``canary_n`` and ``control_n`` are playbacks, or frames hit."""

    name: str
    asymptotic: bool
    log_e_harm: float | None
    log_e_noninferior: float | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    canary_n: int = 0
    control_n: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a verdict rests on. A metric of the policy that is not in ``metrics`` could not be computed."""

    now_h: float
    metrics: tuple[MetricEvidence, ...]
    exposure: Exposure
    ratio_log_e: float
    telemetry_age_h: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """``metrics`` names what the reason is about; ``terms`` are log(w_k E_k), ``log_total`` the log of their sum (minus
    infinity when none counts); ``needed`` is what both kinds of evidence are held against."""

    decision: Decision
    reason: Reason
    metrics: tuple[str, ...]
    terms: tuple[tuple[str, float], ...]
    log_total: float
    needed: float


def judge(evidence: Evidence, stage: Stage, in_stage_h: float, policy: Policy) -> Verdict:
    """The verdict for a stage that has been open for ``in_stage_h`` hours."""
    needed = math.log(1 / policy.alpha)
    terms = _terms(evidence, policy)
    total = _log_sum([value for _, value in terms])
    decision, reason, metrics = _decide(evidence, stage, in_stage_h, policy, terms, total)
    return Verdict(decision, reason, metrics, terms, total, needed)


def _decide(
    evidence: Evidence,
    stage: Stage,
    in_stage_h: float,
    policy: Policy,
    terms: tuple[tuple[str, float], ...],
    total: float,
) -> tuple[Decision, Reason, tuple[str, ...]]:
    needed = math.log(1 / policy.alpha)
    # Written so that values that are not numbers hold.
    if not evidence.ratio_log_e < math.log(policy.ratio_evidence):
        return Decision.HOLD, Reason.RATIO_MISMATCH, ()
    if not evidence.exposure.control_share <= policy.contamination:
        return Decision.HOLD, Reason.CONTAMINATED, ()
    if not evidence.telemetry_age_h <= policy.stale_after_h:
        return Decision.HOLD, Reason.STALE, ()
    if total >= needed:
        return Decision.ROLLBACK, Reason.HARM, (max(terms, key=lambda term: term[1])[0],)
    if missing := _missing(evidence, stage, policy):
        return Decision.HOLD, Reason.MISSING, missing
    enough = evidence.exposure.enough if stage.margins else evidence.exposure.playbacks > 0
    found = {metric.name: metric for metric in evidence.metrics}
    open_tests = tuple(name for name in stage.margins if not _shown(found[name], needed))
    if enough and in_stage_h >= stage.dwell_h and not open_tests:
        return Decision.PROMOTE, Reason.HARMLESS, ()
    if evidence.now_h >= policy.last_day * HOURS:
        return Decision.HOLD, Reason.TIME_IS_UP, open_tests
    if not enough:
        return Decision.HOLD, Reason.LITTLE_EXPOSURE, ()
    if open_tests:
        return Decision.HOLD, Reason.NOT_ENOUGH_EVIDENCE, open_tests
    return Decision.HOLD, Reason.DWELL, ()


def _terms(evidence: Evidence, policy: Policy) -> tuple[tuple[str, float], ...]:
    """log(w_k E_k) of every metric that counts now."""
    weights = policy.weights()
    return tuple(
        (metric.name, math.log(weights[metric.name]) + metric.log_e_harm)
        for metric in evidence.metrics
        if metric.name in weights
        and metric.log_e_harm is not None
        and not math.isnan(metric.log_e_harm)
        and (evidence.exposure.enough or not metric.asymptotic)
    )


def _missing(evidence: Evidence, stage: Stage, policy: Policy) -> tuple[str, ...]:
    """Metrics that the policy weighs or the stage tests, and that could not be computed."""
    found = {metric.name for metric in evidence.metrics if not math.isnan(metric.log_e_harm or 0.0)}
    wanted = list(policy.weights())
    wanted += [name for name in stage.margins if name not in wanted]
    return tuple(name for name in wanted if name not in found)


def _shown(metric: MetricEvidence, needed: float) -> bool:
    return metric.log_e_noninferior is not None and metric.log_e_noninferior >= needed


def _log_sum(logs: list[float]) -> float:
    """log of the sum of exponentials, minus infinity for none."""
    top = max(logs, default=-math.inf)
    if math.isinf(top):
        return top
    return top + math.log(sum(math.exp(value - top) for value in logs))
