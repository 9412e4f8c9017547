"""One look at a rollout: a frame-day table in, evidence out. ``verdict.judge`` says what it means.

A metric that fails to compute is logged and left out, which the verdict calls missing: it never counts as 0, and takes
no other metric with it.
"""

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np

from ota.domain.analysis import baseline, complaints, eprocess, logrank, ratio
from ota.domain.analysis.estimator import estimate, sample
from ota.domain.analysis.exposure import exposure
from ota.domain.analysis.policy import COMPLAINT, Measure, Policy, RareEvent, Stage
from ota.domain.analysis.table import FloatArray, Table
from ota.domain.analysis.verdict import Evidence, MetricEvidence

log = logging.getLogger(__name__)
_T = TypeVar("_T")


def evaluate(table: Table, stage: Stage, telemetry_age_h: float, policy: Policy) -> Evidence:
    """Evidence for the open ``stage``. ``telemetry_age_h`` is the age of the newest telemetry of any frame, in hours.

    A metric without data is left out only once there is enough exposure: before, it has nothing to say.
    """
    seen = exposure(table, policy)
    metrics = []
    for measure in policy.measures:
        found, failed = _tried(measure.name, partial(_measure, table, measure, stage, policy))
        if found is not None:
            metrics.append(found)
        elif not seen.enough and not failed:
            metrics.append(MetricEvidence(measure.name, asymptotic=True, log_e_harm=None))
    rates, _ = _tried(COMPLAINT, partial(baseline.complaint_rates, table, policy))
    for event in policy.events:
        found, _ = _tried(event.name, partial(_event, table, event, rates, stage, seen.enough, policy))
        if found is not None:
            metrics.append(found)
    worst = ratio.worst_stratum(table.frames, stage.share, policy)
    return Evidence(table.now_h, tuple(metrics), seen, worst, telemetry_age_h)


def _tried(name: str, compute: Callable[[], _T]) -> tuple[_T | None, bool]:
    """What ``compute`` gives, and whether it failed."""
    try:
        return compute(), False
    except Exception:
        log.exception("The metric %s cannot be computed", name)
        return None, True


def _measure(table: Table, measure: Measure, stage: Stage, policy: Policy) -> MetricEvidence | None:
    data = sample(table, measure, policy)
    found = estimate(data, policy) if data is not None else None
    if found is None:
        return None
    harm = measure.harm * found.effect
    margin = stage.margins.get(measure.name)
    width = float(eprocess.half_width(found.variance_cautious, measure.size, policy.alpha))
    return MetricEvidence(
        measure.name,
        asymptotic=True,
        log_e_harm=float(eprocess.log_e(harm, found.variance, measure.tau, measure.size)),
        log_e_noninferior=None
        if margin is None
        else float(eprocess.log_e_noninferior(harm, found.variance_cautious, margin, policy.margin_spread)),
        estimate=found.effect,
        low=found.effect - width,
        high=found.effect + width,
        canary_n=int(found.canary_playbacks),
        control_n=int(found.control_playbacks),
    )


def _event(
    table: Table, event: RareEvent, rates: FloatArray | None, stage: Stage, enough: bool, policy: Policy
) -> MetricEvidence | None:
    if event.name == COMPLAINT and rates is None:
        return None  # without rates, households that always complain would be compared with those that never do
    strata = np.zeros(len(table.frames), dtype=np.int64)
    if event.name == COMPLAINT and rates is not None:
        strata = logrank.risk_strata(rates, policy)
    found = logrank.evidence(table, event.name, strata, policy)
    if found is None:
        return None
    harm, noninferior, middle, low, high = found.log_e, None, None, None, None
    compared = complaints.compare(table, rates) if event.name == COMPLAINT and rates is not None else None
    if compared is not None:
        margin = stage.margins.get(COMPLAINT)
        noninferior = None if margin is None else compared.log_e_noninferior(margin)
        if enough:
            # The mean of both: the logrank test is exact, this one sees what households have to say after their first.
            harm = float(np.logaddexp(harm, compared.log_e_harm(policy.hazard_ratios))) - math.log(2)
        middle = compared.ratio
        variance = compared.variance(max(1.0, middle))
        width = float(eprocess.half_width(variance, policy.complaint_tau, policy.alpha))
        low, high = max(0.0, middle - width), middle + width
    return MetricEvidence(
        event.name,
        asymptotic=False,
        log_e_harm=harm,
        log_e_noninferior=noninferior,
        estimate=middle,
        low=low,
        high=high,
        canary_n=found.exposed,
        control_n=found.unexposed,
    )
