"""The verdict and its evidence in words and pictures: what the newest look says, metric by metric. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import pgettext, pgettext_lazy

from dashboards import effects, words
from dashboards.axes import Mark
from dashboards.bands import BandPoint, band_chart
from dashboards.formats import day as day_words
from dashboards.formats import decimal, percent
from dashboards.words_verdict import DECISION, STANDING, guardrail
from ota.domain.analysis.policy import MARGINED
from ota.selectors_looks import (
    EVERYTHING,
    SENTENCES,
    BenefitDetail,
    ExposureDetail,
    HistoryPoint,
    MetricDetail,
    Standing,
    VerdictDetail,
)

MANY = 1000.0
"""Evidence beyond this is only called more than this."""
WHERE = {
    "target": pgettext_lazy("frames", "in the segment it aims at"),
    "rest": pgettext_lazy("frames", "in all other frames"),
    "everybody": pgettext_lazy("frames", "in the whole group"),
}


@dataclass(frozen=True)
class Headline:
    """What the newest look says in one sentence, and what stands behind it."""

    status: words.Status
    sentence: str
    facts: tuple[str, ...]
    at: datetime
    since: datetime
    look: int


@dataclass(frozen=True)
class Row:
    """One metric of the newest look."""

    name: words.Words
    status: words.Status
    effect: str
    interval: str
    limit: str
    harm: str
    harmless: str
    size: str


@dataclass(frozen=True)
class Picture:
    """One metric over all looks, drawn and tabulated. ``empty`` says why nothing is drawn."""

    key: str
    title: words.Words
    svg: SafeString
    rows: tuple[tuple[datetime, str, str, str], ...]
    note: str
    empty: str


@dataclass(frozen=True)
class BenefitRow:
    """One answer to whether it helped."""

    name: words.Words
    where: words.Words
    status: words.Status
    effect: str
    interval: str
    size: str


def evidence_words(value: float | None) -> str:
    """Evidence as a number, a dash for none."""
    if value is None:
        return "–"
    if value > MANY:
        return _("more than {number}").format(number=decimal(MANY, 0))
    return decimal(value, 0 if value >= 100 else 1 if value >= 10 else 2)


def headline(verdict: VerdictDetail) -> Headline:
    """The newest look in one sentence."""
    named = pgettext("between the items of a list", ", ").join(str(guardrail(name)) for name in verdict.reason_metrics)
    sentence = _(SENTENCES[verdict.reason]).format(metrics=named or _(EVERYTHING))
    facts = [
        _("evidence of harm {evidence}, {needed} rolls it back").format(
            evidence=evidence_words(verdict.evidence), needed=decimal(verdict.needed, 0)
        )
    ]
    if verdict.exposure is not None:
        facts.append(_exposure(verdict.exposure))
    if verdict.left_out:
        missing = pgettext("between the items of a list", ", ").join(str(guardrail(name)) for name in verdict.left_out)
        facts.append(_("not measured by any frame here: {metrics}").format(metrics=missing))
    status = words.status(DECISION, verdict.decision)
    return Headline(status, sentence, tuple(facts), verdict.at, verdict.since, verdict.look)


def _exposure(exposure: ExposureDetail) -> str:
    text = _(
        "{playbacks} of at least {playbacks_needed} playbacks of the release, {frames} of at least {frames_needed} "
        "canaries that have played it often enough"
    ).format(
        playbacks=decimal(exposure.playbacks, 0),
        playbacks_needed=decimal(exposure.playbacks_needed, 0),
        frames=decimal(exposure.frames, 0),
        frames_needed=decimal(exposure.frames_needed, 0),
    )
    if exposure.control_share > 0:
        text += _("; {share} of the controls play it too").format(share=percent(exposure.control_share))
    return text


def rows(verdict: VerdictDetail) -> list[Row]:
    """Every metric, those of which the stage asks something first."""
    ordered = sorted(verdict.metrics, key=lambda metric: metric.limit is None)
    return [_row(metric, verdict.needed) for metric in ordered]


def _row(metric: MetricDetail, needed: float) -> Row:
    return Row(
        name=guardrail(metric.name),
        status=words.status(STANDING, metric.standing),
        effect=effects.effect(metric.name, metric.estimate),
        interval=interval(metric.name, metric.low, metric.high),
        limit=effects.effect(metric.name, metric.limit),
        harm=evidence_words(metric.harm_evidence),
        harmless=_("{evidence} of {needed}").format(
            evidence=evidence_words(metric.harmless_evidence), needed=decimal(needed, 0)
        )
        if metric.limit is not None
        else "–",
        size=_size(metric),
    )


def interval(metric: str, low: float | None, high: float | None) -> str:
    """Both ends in words, a dash for none."""
    if low is None or high is None:
        return "–"
    return _("{low} to {high}").format(low=effects.effect(metric, low), high=effects.effect(metric, high))


def _size(metric: MetricDetail | BenefitDetail) -> str:
    return _("{canary} · {control}").format(canary=decimal(metric.canary_n, 0), control=decimal(metric.control_n, 0))


def pictures(
    histories: Mapping[str, Sequence[HistoryPoint]],
    verdict: VerdictDetail | None,
    marks: Sequence[Mark],
    *,
    simulated: bool,
) -> list[Picture]:
    """Small multiples of every metric that has an estimate."""
    note = _("Simulated people's days") if simulated else ""
    enough = {
        metric.name for metric in (verdict.metrics if verdict else ()) if metric.standing is not Standing.NOT_ENOUGH
    }
    found = [name for name in MARGINED if any(point.estimate is not None for point in histories.get(name, ()))]
    return [_picture(name, histories[name], name in enough, marks, note) for name in found]


def _picture(name: str, history: Sequence[HistoryPoint], enough: bool, marks: Sequence[Mark], note: str) -> Picture:
    known = effects.scale(name)
    points = [
        BandPoint(
            at=point.at,
            value=known.axis(point.estimate),
            low=known.axis(point.low),
            high=known.axis(point.high),
            limit=None if point.limit is None else known.axis(point.limit),
            label=_label(name, point),
        )
        for point in history
        if point.estimate is not None and point.low is not None and point.high is not None
    ]
    title = guardrail(name)
    newest = next(point for point in reversed(history) if point.estimate is not None)
    svg = band_chart(
        chart_id=f"guardrail-{name}",
        title=_("{metric}, canary against control").format(metric=title),
        description=_label(name, newest),
        points=points,
        neutral=known.neutral,
        legend=(
            str(known.unit),
            pgettext("confidence sequence", "band"),
            pgettext("guardrail", "limit"),
        ),
        number=known.tick,
        day_label=day_words,
        marks=marks,
        note=note,
    )
    table = tuple(
        (
            point.at,
            effects.effect(name, point.estimate),
            interval(name, point.low, point.high),
            decimal(point.canary_n, 0),
        )
        for point in reversed(history)
    )
    said = "" if enough else _("Not enough evidence yet.")
    return Picture(name, title, mark_safe(svg), table, note, said)  # noqa: S308 - charts escape every word


def _label(name: str, point: HistoryPoint) -> str:
    text = _("{day}: {effect}, {interval}; n = {count}").format(
        day=f"{day_words(point.at.date())} {point.at:%H:%M}",
        effect=effects.effect(name, point.estimate),
        interval=interval(name, point.low, point.high),
        count=decimal(point.canary_n, 0),
    )
    if point.limit is None:
        return text
    return _("{text}; limit {limit}").format(text=text, limit=effects.effect(name, point.limit))


def benefits(verdict: VerdictDetail) -> list[BenefitRow]:
    """Did the release help, where it should and elsewhere?"""
    return [_benefit(benefit) for benefit in verdict.benefit]


def _benefit(found: BenefitDetail) -> BenefitRow:
    key = {True: "better", False: "worse", None: "unknown"}[found.better]
    return BenefitRow(
        name=guardrail(found.metric),
        where=WHERE.get(found.where, found.where),
        status=words.status(BENEFIT, key),
        effect=effects.effect(found.metric, found.estimate),
        interval=interval(found.metric, found.low, found.high),
        size=_size(found),
    )


BENEFIT = {
    "better": words.Status(pgettext_lazy("benefit", "Better"), "check", "good"),
    "worse": words.Status(pgettext_lazy("benefit", "Worse"), "cross", "bad"),
    "unknown": words.Status(pgettext_lazy("benefit", "Not enough evidence"), "clock", "quiet"),
}
