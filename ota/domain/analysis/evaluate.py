"""One look at a rollout: a frame-day table in, evidence out. ``verdict.judge`` says what it means."""

import numpy as np

from ota.domain.analysis import baseline, complaints, eprocess, logrank, ratio
from ota.domain.analysis.estimator import estimate, sample
from ota.domain.analysis.exposure import exposure
from ota.domain.analysis.policy import COMPLAINT, Measure, Policy, RareEvent, Stage
from ota.domain.analysis.table import FloatArray, IntArray, Table
from ota.domain.analysis.verdict import Evidence, MetricEvidence


def evaluate(table: Table, stage: Stage, telemetry_age_h: float, policy: Policy) -> Evidence:
    """Evidence for the open ``stage``. ``telemetry_age_h`` is the age of the newest telemetry of any frame, in hours.

    A metric without data is left out only once there is enough exposure: before, it has nothing to say.
    """
    seen = exposure(table, policy)
    rates = baseline.complaint_rates(table, policy)
    alike = np.zeros(len(table.frames), dtype=np.int64)
    metrics = []
    for measure in policy.measures:
        found = _measure(table, measure, stage, policy)
        if found is not None:
            metrics.append(found)
        elif not seen.enough:
            metrics.append(MetricEvidence(measure.name, asymptotic=True, log_e_harm=None))
    for event in policy.events:
        strata = logrank.risk_strata(rates, policy) if event.name == COMPLAINT else alike
        found = _event(table, event, strata, rates, stage, policy)
        if found is not None:
            metrics.append(found)
    worst = ratio.worst_stratum(table.frames, stage.share, policy)
    return Evidence(table.now_h, tuple(metrics), seen, worst, telemetry_age_h)


def _measure(table: Table, measure: Measure, stage: Stage, policy: Policy) -> MetricEvidence | None:
    data = sample(table, measure, policy)
    found = estimate(data, policy) if data is not None else None
    if found is None:
        return None
    harm = measure.harm * found.effect
    margin = stage.margins.get(measure.name)
    width = float(eprocess.half_width(found.variance_cautious, measure.tau, policy.alpha))
    return MetricEvidence(
        measure.name,
        asymptotic=True,
        log_e_harm=float(eprocess.log_e(harm, found.variance, measure.tau)),
        log_e_noninferior=None
        if margin is None
        else float(eprocess.log_e_noninferior(harm, found.variance_cautious, margin)),
        estimate=found.effect,
        low=found.effect - width,
        high=found.effect + width,
        canary_n=int(found.canary_playbacks),
        control_n=int(found.control_playbacks),
    )


def _event(
    table: Table, event: RareEvent, strata: IntArray, rates: FloatArray, stage: Stage, policy: Policy
) -> MetricEvidence | None:
    found = logrank.evidence(table, event.name, strata, policy)
    if found is None:
        return None
    noninferior = middle = low = high = None
    compared = complaints.compare(table, rates) if event.name == COMPLAINT else None
    if compared is not None:
        margin = stage.margins.get(COMPLAINT)
        noninferior = None if margin is None else compared.log_e_noninferior(margin, policy)
        middle = compared.ratio
        variance = compared.variance(max(1.0, middle))
        width = float(eprocess.half_width(variance, policy.complaint_tau, policy.alpha))
        low, high = max(0.0, middle - width), middle + width
    return MetricEvidence(
        event.name,
        asymptotic=False,
        log_e_harm=found.log_e,
        log_e_noninferior=noninferior,
        estimate=middle,
        low=low,
        high=high,
        canary_n=found.exposed,
        control_n=found.unexposed,
    )
