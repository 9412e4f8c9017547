"""A guardrail's effect, canary minus control, as people read it: points, watts, times as many, per cent. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from dashboards.formats import decimal
from dashboards.words import Words
from dashboards.words_verdict import guardrail
from ota.domain.analysis import policy

MINUS = "\u2212"


@dataclass(frozen=True)
class Scale:
    """How one metric's effect is drawn and written. ``axis`` takes the analysis' unit to the one drawn, in which
    ``neutral`` means no difference; ``worse`` is +1 where more is worse."""

    axis: Callable[[float], float]
    write: Callable[[float], str]
    unit: Words
    neutral: float
    worse: int

    def tick(self, value: float) -> str:
        """A number on the axis: as few decimals as it needs, and a true minus."""
        digits = next((d for d in (0, 1, 2) if abs(value - round(value, d)) < 1e-9), 3)
        return f"{MINUS if value < 0 else ''}{decimal(abs(value), digits)}"

    def limit(self, margin: float) -> float:
        """The effect, in the analysis' unit, that a margin forbids."""
        return margin if self.neutral else self.worse * margin


def signed(value: float, digits: int) -> str:
    """With its sign, and a true minus."""
    text = decimal(abs(value), digits)
    return f"{MINUS if value < 0 else '+'}{text}"


def _points(value: float) -> str:
    return _("{number} points").format(number=signed(value, 1))


def _watts(value: float) -> str:
    return _("{number} W").format(number=signed(value, 2))


def _times(value: float) -> str:
    return f"\u00d7{decimal(value, 1 if value >= 10 else 2)}"


def _percents(value: float) -> str:
    return _("{number} %").format(number=signed(value, 1))


def _relative(value: float) -> float:
    """Natural logs to per cent more."""
    return (exp(min(value, 50.0)) - 1) * 100


SCALES: dict[str, Scale] = {
    policy.COMPLETION: Scale(lambda value: value * 100, _points, gettext_lazy("points"), 0.0, -1),
    policy.POWER: Scale(lambda value: value, _watts, "W", 0.0, +1),
    policy.COMPLAINT: Scale(lambda value: value, _times, gettext_lazy("times as many"), 1.0, +1),
    policy.LATENCY: Scale(_relative, _percents, "%", 0.0, +1),
    policy.FPS: Scale(_relative, _percents, "%", 0.0, -1),
}
PLAIN = Scale(lambda value: value, lambda value: decimal(value, 2), "", 0.0, +1)


def scale(metric: str) -> Scale:
    """The metric's, or plain numbers for one that nobody has words for."""
    return SCALES.get(metric, PLAIN)


def effect(metric: str, value: float | None) -> str:
    """The effect in words, a dash for none."""
    if value is None:
        return "–"
    known = scale(metric)
    return known.write(known.axis(value))


def margins(given: Mapping[str, float]) -> tuple[str, ...]:
    """All that a stage asks, always in the same order."""
    known = [name for name in policy.MARGINED if name in given]
    return tuple(margin(name, given[name]) for name in [*known, *sorted(set(given) - set(known))])


def margin(metric: str, value: float) -> str:
    """What a stage asks: "Completion: down to −3.0 points"."""
    limit = effect(metric, scale(metric).limit(value))
    if scale(metric).worse < 0:
        return _("{metric}: down to {limit}").format(metric=guardrail(metric), limit=limit)
    return _("{metric}: up to {limit}").format(metric=guardrail(metric), limit=limit)
