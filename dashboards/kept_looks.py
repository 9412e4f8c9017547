"""The look that an event of the trail keeps, in words. Pure; what another version wrote is left out, never wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp

from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from dashboards import effects, words
from dashboards.verdict_page import evidence_words, interval
from dashboards.words_verdict import guardrail
from ota.domain.analysis.verdict import Reason
from ota.selectors_looks import EVERYTHING, SENTENCES

LARGEST = 700.0
"""exp() of more is no float."""


@dataclass(frozen=True)
class KeptRow:
    """One metric as it stood then."""

    name: words.Words
    effect: str
    interval: str
    harm: str
    harmless: str


@dataclass(frozen=True)
class Kept:
    """The verdict behind a decision, and its metrics."""

    sentence: str
    rows: tuple[KeptRow, ...]


def kept(look: object) -> Kept | None:
    """The look in an event's detail; None where there is none that can be read."""
    if not isinstance(look, Mapping):
        return None
    try:
        sentence = SENTENCES[Reason(str(look.get("reason")))]
    except ValueError:
        return None
    names = look.get("metrics")
    named = [str(guardrail(str(name))) for name in names] if isinstance(names, list) else []
    metrics = pgettext("between the items of a list", ", ").join(named) or _(EVERYTHING)
    evidence = look.get("evidence")
    found = evidence.get("metrics") if isinstance(evidence, Mapping) else None
    rows = [_row(one) for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    return Kept(_(sentence).format(metrics=metrics), tuple(rows))


def _row(metric: Mapping[str, object]) -> KeptRow:
    name = str(metric.get("name", ""))
    return KeptRow(
        name=guardrail(name),
        effect=effects.effect(name, _number(metric.get("estimate"))),
        interval=interval(name, _number(metric.get("low")), _number(metric.get("high"))),
        harm=_evidence(metric.get("log_term")),
        harmless=_evidence(metric.get("log_e_noninferior")),
    )


def _evidence(log: object) -> str:
    number = _number(log)
    return evidence_words(None if number is None else exp(min(number, LARGEST)))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
