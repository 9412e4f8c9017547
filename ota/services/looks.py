"""Keeping looks at the evidence: what was found, as JSON, bounded in number.

``Look.evidence`` holds ``Evidence`` and ``Verdict`` whole::

    now_h, in_stage_h, telemetry_age_h, ratio_log_e, alpha
    metrics     one object for each metric: the fields of ``MetricEvidence``, its weight, its log_term (log of w_k E_k,
                null while it does not count), the stage's margin, the sign of harm
    left_out    metrics that no frame of the rollout can measure
    exposure    the fields of ``Exposure`` and whether it is enough
    benefit     one object for each metric of the plan's target, see ``benefits``
    error       instead of all of these, where the look itself failed

Logs of evidence are natural. Numbers that JSON does not know are bounded by ``MOST``, or null.
"""

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ota.domain.analysis.benefit import Benefit
from ota.domain.analysis.policy import COMPLAINT, Policy, Stage
from ota.domain.analysis.verdict import Decision, Evidence, MetricEvidence, Reason, Verdict
from ota.models import Look, Rollout

KEPT = 3_000
"""Looks of one rollout: four weeks of one every quarter of an hour, and some."""
MOST = 1e9
SENTENCE = 500


def store(
    rollout: Rollout,
    number: int,
    now: dt.datetime,
    verdict: Verdict,
    detail: Mapping[str, Any],
    *,
    benefit: bool = False,
) -> Look:
    """Keep one look at stage ``number``; ``detail`` is what ``as_detail`` made."""
    look = Look.objects.create(
        rollout=rollout,
        stage=number,
        at=now,
        decision=verdict.decision.value,
        reason=verdict.reason.value,
        metrics=list(verdict.metrics),
        log_total=number_of(verdict.log_total) if math.isfinite(verdict.log_total) else None,
        needed=verdict.needed,
        benefit=benefit,
        evidence=dict(detail),
    )
    _forget(rollout)
    return look


def store_failure(rollout: Rollout, number: int, now: dt.datetime, policy: Policy, error: Exception) -> Look:
    """Nothing could be computed: the newest look says so, and holds."""
    verdict = Verdict(Decision.HOLD, Reason.MISSING, (), (), -math.inf, math.log(1 / policy.alpha))
    return store(rollout, number, now, verdict, {"error": f"{type(error).__name__}: {error}"[:SENTENCE]})


def as_detail(
    evidence: Evidence,
    verdict: Verdict,
    stage: Stage,
    in_stage_h: float,
    policy: Policy,
    left_out: Sequence[str] = (),
    benefit: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """All that the verdict rests on, in JSON's types."""
    weights, terms = policy.weights(), dict(verdict.terms)
    signs = {measure.name: measure.harm for measure in policy.measures}
    metrics = [
        {
            **plain(metric),
            "weight": weights.get(metric.name, 0.0),
            "log_term": number_of(terms.get(metric.name)),
            "margin": stage.margins.get(metric.name),
            "harm": signs.get(metric.name, 1),
        }
        for metric in evidence.metrics
    ]
    return {
        "now_h": evidence.now_h,
        "in_stage_h": in_stage_h,
        "dwell_h": stage.dwell_h,
        "telemetry_age_h": number_of(evidence.telemetry_age_h),
        "ratio_log_e": number_of(evidence.ratio_log_e),
        "ratio_log_needed": math.log(policy.ratio_evidence),
        "alpha": policy.alpha,
        "metrics": metrics,
        "left_out": list(left_out),
        "exposure": {**asdict(evidence.exposure), "enough": evidence.exposure.enough},
        "benefit": [dict(one) for one in benefit],
    }


def plain(found: MetricEvidence | Benefit) -> dict[str, Any]:
    """Its fields, in JSON's types."""
    return {name: number_of(value) for name, value in asdict(found).items()}


def number_of(value: Any) -> Any:
    """``value``, or what JSON can hold of it."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else math.copysign(MOST, value)


def limit_of(metric: Mapping[str, Any]) -> float | None:
    """The stage's margin on the scale of the estimate: -0.03 for completion that may drop by 3 points."""
    margin = metric["margin"]
    if margin is None:
        return None
    return float(margin) if metric["name"] == COMPLAINT else float(metric["harm"] * margin)


def _forget(rollout: Rollout) -> None:
    """The oldest beyond ``KEPT`` go."""
    beyond = Look.objects.filter(rollout=rollout).order_by("-id").values_list("id", flat=True)[KEPT : KEPT + 1]
    if oldest := list(beyond):
        Look.objects.filter(rollout=rollout, id__lte=oldest[0]).delete()
