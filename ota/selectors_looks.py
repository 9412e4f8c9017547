"""Reading looks at the evidence: the newest verdict of a rollout, and how each metric moved.

verdict_of(rollout)            the newest look, or None before the first
history(rollout, metric)       its estimate and band over all looks, thinned
histories(rollout)             the same of every metric, in one query
"""

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.db.models import F, Window
from django.db.models.functions import RowNumber

from ota.domain.analysis.verdict import Decision, Reason
from ota.domain.causes import gettext_noop
from ota.models import Look, Rollout
from ota.services.looks import limit_of

POINTS = 200
"""Looks in a history: more than a chart has room for."""
_LARGEST = 700.0
"""exp() of more is no float."""

SENTENCES: dict[Reason, str] = {
    Reason.RATIO_MISMATCH: gettext_noop("Hold: there are more or fewer canaries than were drawn."),
    Reason.CONTAMINATED: gettext_noop("Hold: controls play the release too, so there is nobody to compare with."),
    Reason.STALE: gettext_noop("Hold: no fresh telemetry has come in."),
    Reason.HARM: gettext_noop("Roll back: harm is shown in {metrics}."),
    Reason.MISSING: gettext_noop("Hold: {metrics} could not be computed."),
    Reason.LITTLE_EXPOSURE: gettext_noop("Hold: too few canaries have played the release to say anything."),
    Reason.DWELL: gettext_noop("Hold: no harm is shown, and the stage has not been open for long enough."),
    Reason.NOT_ENOUGH_EVIDENCE: gettext_noop("Hold: not enough evidence yet about {metrics}."),
    Reason.TIME_IS_UP: gettext_noop("Hold: the last day has come without enough evidence, so a person decides."),
    Reason.HARMLESS: gettext_noop("Promote: everything that the stage asks for is shown."),
}
EVERYTHING = gettext_noop("the evidence")
"""What could not be computed where no metric is named."""


class Standing(StrEnum):
    """What one metric says by itself."""

    HARM = "harm"
    """Its own weighed evidence is enough to roll back."""
    HARMLESS = "harmless"
    """It is shown to be within the stage's margin."""
    NOT_ENOUGH = "not_enough"
    """Neither is shown: not enough evidence."""
    WATCHED = "watched"
    """The stage asks nothing of it, and no harm is shown."""
    NOTHING_YET = "nothing_yet"
    """It has nothing to say yet."""


@dataclass(frozen=True, kw_only=True)
class MetricDetail:
    """One metric at one look. Estimates are canary minus control in the measure's unit (completion: a fraction; power:
    W; latency, fps: natural logs), a ratio for complaints, None where there is none; ``low`` to ``high`` hold at all
    times together. ``limit`` is the stage's margin on the same scale, None where it asks nothing.

    ``harm_evidence`` (w_k E_k) adds up over the metrics and is held against the verdict's ``needed``;
    ``harmless_evidence`` is held against it alone. None: it does not count yet. ``canary_n`` and ``control_n`` are
    playbacks, or frames hit for rare events."""

    name: str
    standing: Standing
    estimate: float | None
    low: float | None
    high: float | None
    limit: float | None
    harm: int
    """+1 where more is worse, -1 where less is."""
    harm_evidence: float | None
    harmless_evidence: float | None
    weight: float
    canary_n: int
    control_n: int


@dataclass(frozen=True, kw_only=True)
class ExposureDetail:
    """Who really played the release. ``control_share`` of the controls that played anything did (0 to 1)."""

    canaries: int
    playbacks: int
    playbacks_needed: int
    frames: int
    frames_needed: int
    control_share: float
    enough: bool


@dataclass(frozen=True, kw_only=True)
class BenefitDetail:
    """Did it help where it should? ``metric`` is completion (a difference, more is better) or complaint (a ratio, less
    is better); ``better`` None while the interval says neither. ``where`` is "target", "rest" or "everybody"."""

    metric: str
    where: str
    estimate: float | None
    low: float | None
    high: float | None
    better: bool | None
    canary_n: int
    control_n: int


@dataclass(frozen=True, kw_only=True)
class VerdictDetail:
    """The newest look. ``evidence`` of harm is held against ``needed``; ``since`` is when decision and reason became
    what they are; ``sentence`` is English, made of ``SENTENCES`` and ``reason_metrics``."""

    look: int
    stage: int
    at: dt.datetime
    since: dt.datetime
    decision: Decision
    reason: Reason
    reason_metrics: tuple[str, ...]
    sentence: str
    enough_evidence: bool
    """Whether it decides anything: False is to be said plainly."""
    evidence: float
    needed: float
    metrics: tuple[MetricDetail, ...]
    exposure: ExposureDetail | None
    ratio_evidence: float
    telemetry_age_h: float | None
    in_stage_h: float | None
    benefit: tuple[BenefitDetail, ...]
    benefit_shown: bool
    left_out: tuple[str, ...]
    """Metrics that no frame of the rollout measures."""
    error: str
    """Why nothing could be computed, "" where it could."""


@dataclass(frozen=True, kw_only=True)
class HistoryPoint:
    """One metric at one look; ``canary_n`` as in MetricDetail."""

    at: dt.datetime
    stage: int
    estimate: float | None
    low: float | None
    high: float | None
    limit: float | None
    canary_n: int


def verdict_of(rollout: Rollout) -> VerdictDetail | None:
    """The newest look in plain data; None before the first."""
    look = Look.objects.filter(rollout=rollout).order_by("-id").first()
    if look is None:
        return None
    found = look.evidence
    metrics = tuple(_metric(one, look.needed) for one in found.get("metrics", ()))
    exposure = found.get("exposure")
    decision, reason = Decision(look.decision), Reason(look.reason)
    return VerdictDetail(
        look=look.pk,
        stage=look.stage,
        at=look.at,
        since=_since(look),
        decision=decision,
        reason=reason,
        reason_metrics=tuple(look.metrics),
        sentence=SENTENCES[reason].format(metrics=", ".join(look.metrics) or EVERYTHING),
        enough_evidence=decision is not Decision.HOLD,
        evidence=_e(look.log_total) or 0.0,
        needed=math.exp(look.needed),
        metrics=metrics,
        exposure=ExposureDetail(**exposure) if exposure else None,
        ratio_evidence=_e(found.get("ratio_log_e")) or 0.0,
        telemetry_age_h=found.get("telemetry_age_h"),
        in_stage_h=found.get("in_stage_h"),
        benefit=tuple(BenefitDetail(**one) for one in found.get("benefit", ())),
        benefit_shown=look.benefit,
        left_out=tuple(found.get("left_out", ())),
        error=found.get("error", ""),
    )


def history(rollout: Rollout, metric: str, points: int = POINTS) -> tuple[HistoryPoint, ...]:
    """Estimate and band of one metric over the rollout's looks, in order; at most about ``points``, evenly thinned, the
    newest always among them."""
    return histories(rollout, points).get(metric, ())


def histories(rollout: Rollout, points: int = POINTS) -> dict[str, tuple[HistoryPoint, ...]]:
    """``history`` of every metric that any look has."""
    looks = Look.objects.filter(rollout=rollout)
    step = max(1, math.ceil(looks.count() / max(1, points)))
    numbered = looks.annotate(place=Window(RowNumber(), order_by=F("id").desc())).order_by("id")
    found: dict[str, list[HistoryPoint]] = {}
    for look in numbered.values("at", "stage", "evidence__metrics", "place"):
        if (look["place"] - 1) % step:
            continue
        for one in look["evidence__metrics"] or ():
            found.setdefault(one["name"], []).append(_point(look, one))
    return {name: tuple(rows) for name, rows in found.items()}


def _point(look: Mapping[str, Any], metric: Mapping[str, Any]) -> HistoryPoint:
    return HistoryPoint(
        at=look["at"],
        stage=look["stage"],
        estimate=metric["estimate"],
        low=metric["low"],
        high=metric["high"],
        limit=limit_of(metric),
        canary_n=metric["canary_n"],
    )


def _metric(metric: Mapping[str, Any], needed: float) -> MetricDetail:
    return MetricDetail(
        name=metric["name"],
        standing=_standing(metric, needed),
        estimate=metric["estimate"],
        low=metric["low"],
        high=metric["high"],
        limit=limit_of(metric),
        harm=metric["harm"],
        harm_evidence=_e(metric["log_term"]),
        harmless_evidence=_e(metric["log_e_noninferior"]),
        weight=metric["weight"],
        canary_n=metric["canary_n"],
        control_n=metric["control_n"],
    )


def _standing(metric: Mapping[str, Any], needed: float) -> Standing:
    term, noninferior = metric["log_term"], metric["log_e_noninferior"]
    if term is not None and term >= needed:
        return Standing.HARM
    if metric["margin"] is not None:
        return Standing.HARMLESS if noninferior is not None and noninferior >= needed else Standing.NOT_ENOUGH
    return Standing.NOTHING_YET if term is None else Standing.WATCHED


def _since(look: Look) -> dt.datetime:
    """When the run of looks that say the same began."""
    before = Look.objects.filter(rollout=look.rollout_id, id__lt=look.pk)
    same = {"decision": look.decision, "reason": look.reason, "stage": look.stage}
    other = before.exclude(**same).order_by("-id").values_list("id", flat=True).first()
    run = Look.objects.filter(rollout=look.rollout_id, id__gt=other or 0, id__lte=look.pk)
    first = run.order_by("id").values_list("at", flat=True).first()
    return first or look.at


def _e(log: float | None) -> float | None:
    return None if log is None else math.exp(min(log, _LARGEST))
