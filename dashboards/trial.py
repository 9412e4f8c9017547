"""What a frame measured in its last trial, and how far its download or its probation has come, in words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from dashboards.formats import decimal, duration, watts
from dashboards.words import Words

ORDER: dict[str, tuple[Words, str, int]] = {
    "step_p50_ms": (gettext_lazy("Step, median"), "ms", 1),
    "step_p99_ms": (gettext_lazy("Step, 99th percentile"), "ms", 1),
    "memory_mb": (gettext_lazy("Memory"), "MB", 0),
    "fps": (gettext_lazy("Frames per second"), "", 0),
    "first_frame_ms": (gettext_lazy("First frame after"), "ms", 0),
    "power_w": (gettext_lazy("Power"), "W", 2),
    "energy_j": (gettext_lazy("Energy per playback"), "J", 1),
    "playbacks": (gettext_lazy("Playbacks on probation"), "", 0),
    "healthy_h": (gettext_lazy("Healthy hours on probation"), "", 1),
}
"""Figure -> its words, unit and decimals, in the order in which they are shown."""
ESTIMATED = "power_estimated"
NOT_SHOWN = frozenset({ESTIMATED, "playbacks_needed", "healthy_h_needed", "fetched_bytes", "total_bytes", "waiting_s"})
OTHER_DIGITS = 2


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: Words
    text: str


def figures(measured: Mapping[str, float]) -> list[Figure]:
    """A line for each figure; one nobody has words for is shown under its own name rather than hidden."""
    known = [Figure(words, _value(measured, name)) for name, (words, _u, _d) in ORDER.items() if name in measured]
    others = sorted(name for name in measured if name not in ORDER and name not in NOT_SHOWN)
    return known + [Figure(name, decimal(measured[name], OTHER_DIGITS)) for name in others]


def progress(state: str, measured: Mapping[str, float]) -> str:
    """How far a release on its way has come, where a frame says so; empty otherwise."""
    return download(state, measured) or probation(state, measured)


def download(state: str, measured: Mapping[str, float]) -> str:
    """How much of a release is on the frame, and whether it waits; empty when nothing is fetched."""
    if state != "downloading" or not {"fetched_bytes", "total_bytes"} <= measured.keys():
        return ""
    waits = measured.get("waiting_s", 0.0)
    sentence = (
        _("Downloading: {fetched} of {total} MB. It waits {time} for its quiet hours to end or for tomorrow's budget.")
        if waits
        else _("Downloading: {fetched} of {total} MB.")
    )
    fetched, total = (decimal(measured[name] / 1e6, 1) for name in ("fetched_bytes", "total_bytes"))
    return sentence.format(fetched=fetched, total=total, time=duration(waits))


def probation(state: str, measured: Mapping[str, float]) -> str:
    """How far a release has come that plays but is not committed yet; empty when there is none."""
    names = ("playbacks", "playbacks_needed", "healthy_h", "healthy_h_needed")
    if state != "trial" or any(name not in measured for name in names):
        return ""
    playbacks, needed, hours, hours_needed = (measured[name] for name in names)
    return _(
        "On probation: {playbacks} of {needed} playbacks, {hours} of {hours_needed} healthy hours. "
        "Either commits the release; a crash of rendering ends it."
    ).format(
        playbacks=decimal(playbacks, 0),
        needed=decimal(needed, 0),
        hours=decimal(hours, 1),
        hours_needed=decimal(hours_needed, 1),
    )


def _value(measured: Mapping[str, float], name: str) -> str:
    _words, unit, digits = ORDER[name]
    value = measured[name]
    if unit == "W":
        text = watts(value)
    else:
        text = decimal(value, digits)
        text = _("{number} {unit}").format(number=text, unit=unit) if unit else text
    estimated = unit in ("W", "J") and bool(measured.get(ESTIMATED))
    return _("{figure} (estimated)").format(figure=text) if estimated else text
