"""Looks at the evidence, made by the product's own decision code from figures that a test gives."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from ota.models import Look, Rollout

NEEDED = math.log(20)


def metric(name: str, estimate: float | None = 0.0, width: float = 0.02, **changes: Any) -> dict[str, Any]:
    """One metric as a look keeps it."""
    kept: dict[str, Any] = {
        "name": name,
        "asymptotic": True,
        "estimate": estimate,
        "low": None if estimate is None else estimate - width,
        "high": None if estimate is None else estimate + width,
        "log_e_harm": -0.5,
        "log_term": -2.1,
        "log_e_noninferior": 1.0,
        "margin": None,
        "weight": 0.2,
        "harm": -1 if name in ("completion", "fps") else 1,
        "canary_n": 412,
        "control_n": 3120,
    }
    return kept | changes


def add_look(
    rollout: Rollout,
    at: datetime,
    metrics: Sequence[dict[str, Any]],
    about: Sequence[str] = ("completion",),
    **changes: Any,
) -> Look:
    """A look at stage 2 that holds for want of evidence ``about`` some metrics, unless ``changes`` say otherwise."""
    exposure = {
        "canaries": 115,
        "playbacks": 412,
        "playbacks_needed": 100,
        "frames": 61,
        "frames_needed": 20,
        "control_share": 0.0,
        "enough": True,
    }
    evidence = {
        "now_h": 30.0,
        "in_stage_h": 26.0,
        "telemetry_age_h": 0.2,
        "ratio_log_e": -1.0,
        "alpha": 0.05,
        "metrics": list(metrics),
        "left_out": ["fps"],
        "exposure": exposure,
        "benefit": [
            {
                "metric": "complaint",
                "where": "target",
                "estimate": 0.4,
                "low": 0.2,
                "high": 0.8,
                "better": True,
                "canary_n": 12,
                "control_n": 140,
            }
        ],
    }
    fields: dict[str, Any] = {
        "stage": 2,
        "decision": "hold",
        "reason": "not_enough_evidence",
        "metrics": list(about),
        "log_total": 0.3,
        "needed": NEEDED,
        "evidence": evidence,
    }
    return Look.objects.create(rollout=rollout, at=at, **(fields | changes))


def add_looks(rollout: Rollout, until: datetime, count: int = 16) -> Look:
    """So many looks, one every two hours, whose bands narrow; from before the second stage on, at any time of day."""
    for number in range(count):
        at = until - timedelta(hours=2 * (count - 1 - number))
        wide = 1 / math.sqrt(number + 1)
        metrics = [
            metric("completion", -0.004, 0.08 * wide, margin=0.03),
            metric("power", 0.02, 0.2 * wide, margin=0.10, log_e_noninferior=3.4),
            metric("complaint", 1.3, 1.2 * wide, margin=4.0),
            metric("latency", None, log_term=None),
            metric("breakage", None, asymptotic=False, log_e_noninferior=None, canary_n=1, control_n=9),
        ]
        look = add_look(rollout, at, metrics)
    return look
