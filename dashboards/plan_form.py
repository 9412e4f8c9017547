"""The form that a rollout is planned with: what people type, and the plan it makes. Pure.

What was typed is kept as it is, so that a form comes back with its input whatever was wrong with it.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from django.utils.translation import gettext as _

from dashboards import causes
from ota.domain.plan import (
    POLICIES,
    BenefitGate,
    Blackout,
    GateKind,
    Plan,
    PlanRefused,
    StagePlan,
    Window,
    by_evidence,
    check,
    kept,
    read,
)

MAX_TEXT = 500
PLAIN = "plain"
"""The choice beside the policies: shares that only wait for their frames, or for a person."""
NAMES = (
    "release",
    "group",
    "base_model",
    "policy",
    "shares",
    "gate",
    "holdback",
    "start_at",
    "end_at",
    "windows",
    "blackout",
    "per_minute",
    "at_once",
    "per_site",
    "jitter_s",
    "priority",
    "supersedes",
    "timeout_h",
    "target",
    "benefit_metric",
    "benefit_at_least",
    "pause_on_harm",
    "emergency",
    "reason",
)
DEFAULTS = {"policy": "standard", "shares": "5, 25, 100", "gate": GateKind.COMMITTED.value}

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*[-\u2013]\s*([01]\d|2[0-3]):([0-5]\d)")
T = TypeVar("T")


class Problem(Exception):
    """Something typed cannot be used. The message is one sentence in the reader's language; ``name`` is the field."""

    def __init__(self, sentence: str, name: str = "") -> None:
        super().__init__(sentence)
        self.name = name


@dataclass(frozen=True)
class Typed:
    """What somebody typed, field by field; every name of ``NAMES`` is there."""

    values: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, str], *, defaults: bool) -> "Typed":
        """Trimmed and without NUL, which no column holds."""
        usual = DEFAULTS if defaults else {}
        return cls({name: given.get(name, usual.get(name, "")).strip().replace("\0", "") for name in NAMES})

    def __getitem__(self, name: str) -> str:
        return self.values[name]


def plan_of(typed: Typed, now: dt.datetime) -> Plan:
    """The plan that was typed, checked. Raises Problem with the first thing that makes no sense."""
    try:
        plan = _stages(typed)
        changes = {
            "start_at": _moment(typed, "start_at"),
            "end_at": _moment(typed, "end_at"),
            "windows": [_window(text) for text in _list(typed["windows"])],
            "blackout": [_blackout(text) for text in _list(typed["blackout"])],
            "per_minute": _count(typed, "per_minute"),
            "at_once": _count(typed, "at_once"),
            "per_site": _count(typed, "per_site"),
            "jitter_s": _count(typed, "jitter_s") or 0,
            "priority": _whole(typed, "priority") or 0,
            "supersedes": [_id(text) for text in _list(typed["supersedes"])],
            "target": typed["target"],
            "benefit": _benefit(typed),
            "guardrails": not typed["pause_on_harm"],
            "emergency": bool(typed["emergency"]),
        }
        hours = _number(typed, "timeout_h")
        plan = msgspec.structs.replace(plan, **changes, **({} if hours is None else {"timeout_h": hours}))
        read(kept(plan))  # the bounds of every field
        check(plan, now)
    except PlanRefused as refused:
        raise Problem(causes.said(refused.cause)) from None
    return plan


def _stages(typed: Typed) -> Plan:
    holdback = _number(typed, "holdback")
    if typed["policy"] in POLICIES:
        return by_evidence(typed["policy"], None if holdback is None else holdback / 100)
    gate = GateKind.MANUAL if typed["gate"] == GateKind.MANUAL else GateKind.COMMITTED
    shares = [_share(text) for text in _list(typed["shares"])]
    stages = [StagePlan(share=share, gate=gate if share < 1.0 else GateKind.COMMITTED) for share in shares]
    return Plan(stages=stages, holdback=(holdback or 0.0) / 100)


def _list(text: str) -> list[str]:
    """What stands between commas, Chinese ones included."""
    return [part.strip() for part in re.split(r"[,;\uff0c\u3001\uff1b\n]", text) if part.strip()]


def _share(text: str) -> float:
    sentence = _("Give the stages' shares in per cent, such as 5, 25, 100.")
    return _read(lambda: float(text.rstrip("%").strip()) / 100, "shares", sentence)


def _moment(typed: Typed, name: str) -> dt.datetime | None:
    """A moment in UTC, as the console writes all of them."""
    if not typed[name]:
        return None
    moment = _read(
        lambda: dt.datetime.fromisoformat(typed[name]), name, _("Write a time as 2026-12-01 08:00; it is UTC.")
    )
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)


def _window(text: str) -> Window:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise Problem(_("Write a window as 02:00-05:00."), "windows")
    opens, closes = (int(found[at]) * 60 + int(found[at + 1]) for at in (1, 3))
    return Window(opens=opens, closes=closes)


def _blackout(text: str) -> Blackout:
    first, _dots, last = text.partition("..")
    sentence = _("Write a blackout as 2026-12-24..2026-12-26, or one day alone.")
    return _read(
        lambda: Blackout(first=dt.date.fromisoformat(first), last=dt.date.fromisoformat(last or first)),
        "blackout",
        sentence,
    )


def _id(text: str) -> int:
    return _read(lambda: int(text), "supersedes", _("Give the numbers of the rollouts to supersede, such as 7, 9."))


def _benefit(typed: Typed) -> BenefitGate | None:
    if not typed["benefit_metric"]:
        return None
    least = _number(typed, "benefit_at_least")
    if least is None:
        raise Problem(_("Say how much better it has to be."), "benefit_at_least")
    return BenefitGate(metric=typed["benefit_metric"], at_least=least)


def _count(typed: Typed, name: str) -> int | None:
    found = _whole(typed, name)
    if found is not None and found < 0:
        raise Problem(_("Give a number that is not below 0."), name)
    return found


def _whole(typed: Typed, name: str) -> int | None:
    return _read(lambda: int(typed[name]), name, _("Give a whole number.")) if typed[name] else None


def _number(typed: Typed, name: str) -> float | None:
    text = typed[name].rstrip("%").strip().replace(",", ".")
    return _read(lambda: float(text), name, _("Give a number.")) if text else None


def _read(reading: Callable[[], T], name: str, sentence: str) -> T:
    try:
        return reading()
    except (ValueError, OverflowError):
        raise Problem(sentence, name) from None
