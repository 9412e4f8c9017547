"""A guardrail over time: the estimate with the band that holds at all times together, the limit, and no difference.

Text alone, as ``dashboards.charts``: no I/O, no Django.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from html import escape
from itertools import pairwise

from dashboards import axes
from dashboards.axes import LEFT, WIDTH, Ground, Mark, moment_of, nice_ticks, text_width

MAX_DOTS = 45
ROOM = 1.0
"""Early bands reach far beyond everything: at most so many times the height of what matters is shown of them."""


@dataclass(frozen=True)
class BandPoint:
    """One look: ``value`` with ``low`` to ``high``; ``limit`` is what the stage allowed then, None for no limit.
    ``label`` is the tooltip; ``thin``: drawn hollow, because there was too little to say anything."""

    at: datetime
    value: float
    low: float
    high: float
    limit: float | None
    label: str
    thin: bool = False


def band_chart(
    *,
    chart_id: str,
    title: str,
    description: str,
    points: Sequence[BandPoint],
    neutral: float,
    legend: tuple[str, str, str],
    number: Callable[[float], str],
    day_label: Callable[[date], str],
    marks: Sequence[Mark] = (),
    note: str = "",
) -> str:
    """The picture; "" without any point. ``legend`` names the estimate, the band and the limit."""
    if not points:
        return ""
    low, high = _reach(points, neutral)
    first, last = points[0].at.date(), points[-1].at.date()
    days = [date.fromordinal(day) for day in range(first.toordinal(), last.toordinal() + 1)]
    at = axes.ground(days[0].toordinal(), days[-1].toordinal() + 1, nice_ticks(low, high), marks)
    height = at.bottom + axes.AXIS_HEIGHT + (axes.NOTE_HEIGHT if note else 0)
    return "".join(
        [
            axes.opened(chart_id, title, description, height),
            *_legend(legend, any(point.limit is not None for point in points)),
            *axes.grid(at, number),
            *axes.day_axis(at, days, day_label),
            axes.below(note, height),
            _band(at, points),
            f'<line class="neutral" x1="{LEFT}" y1="{at.y_of(neutral):.1f}" x2="{WIDTH - axes.RIGHT}" '
            f'y2="{at.y_of(neutral):.1f}"/>',
            _limit(at, points),
            *axes.upright(at),
            *_line(at, points),
            "</svg>",
        ]
    )


def _reach(points: Sequence[BandPoint], neutral: float) -> tuple[float, float]:
    """Ends of the upright axis: all of what matters, and of the bands what there is room for."""
    limits = [point.limit for point in points if point.limit is not None]
    core = [neutral, points[-1].value, points[-1].low, points[-1].high, *limits]
    bottom, top = min(core), max(core)
    room = (top - bottom) * ROOM
    others = [value for point in points for value in (point.value, point.low, point.high)]
    return max(min([bottom, *others]), bottom - room), min(max([top, *others]), top + room)


def _held(at: Ground, value: float) -> float:
    """Place of a value, at the edge where it lies beyond."""
    return at.y_of(min(max(value, at.ticks[0]), at.ticks[-1]))


def _band(at: Ground, points: Sequence[BandPoint]) -> str:
    across = [(at.x_of(moment_of(point.at)), point) for point in points]
    if len(across) == 1:
        x, point = across[0]
        y1, y2 = _held(at, point.low), _held(at, point.high)
        return f'<line class="whisker" x1="{x:.1f}" y1="{y1:.1f}" x2="{x:.1f}" y2="{y2:.1f}"/>'
    there = [f"{x:.1f},{_held(at, point.high):.1f}" for x, point in across]
    back = [f"{x:.1f},{_held(at, point.low):.1f}" for x, point in reversed(across)]
    return f'<polygon class="band" points="{" ".join(there + back)}"/>'


def _limit(at: Ground, points: Sequence[BandPoint]) -> str:
    """Steps: every stage has its own."""
    out = []
    for point, following in pairwise([*points, None]):
        if point is None or point.limit is None:
            continue
        x1 = at.x_of(moment_of(point.at))
        x2 = at.x_of(moment_of(following.at)) if following is not None else WIDTH - axes.RIGHT
        y = _held(at, point.limit)
        out.append(f'<line class="limit" x1="{x1:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y:.1f}"/>')
    return "".join(out)


def _line(at: Ground, points: Sequence[BandPoint]) -> list[str]:
    out = ['<g class="series-0">']
    placed = [(at.x_of(moment_of(point.at)), _held(at, point.value), point) for point in points]
    if len(placed) > 1:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in placed)
        out.append(f'<path class="line" d="M{path}"/>')
    for number, (x, y, point) in enumerate(placed, start=1):
        shown = number == len(placed) or len(placed) <= MAX_DOTS
        kind = "dot thin" if point.thin else "dot"
        dot = f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>' if shown else ""
        out.append(
            f'<g class="point"><title>{escape(point.label)}</title>'
            f'<circle class="hit" cx="{x:.1f}" cy="{y:.1f}" r="6"/>{dot}</g>'
        )
    return [*out, "</g>"]


def _legend(words: tuple[str, str, str], limited: bool) -> list[str]:
    estimate, band, limit = words
    marks = [
        ('<g class="series-0"><line class="line" x1="{0}" y1="9" x2="{1}" y2="9"/></g>', estimate),
        ('<rect class="band" x="{0}" y="4" width="18" height="10"/>', band),
    ]
    if limited:
        marks.append(('<line class="limit" x1="{0}" y1="9" x2="{1}" y2="9"/>', limit))
    out, x = [], LEFT
    for drawn, text in marks:
        out.append(
            f'<g class="legend">{drawn.format(f"{x:.1f}", f"{x + 18:.1f}")}'
            f'<text x="{x + 23:.1f}" y="13">{escape(text)}</text></g>'
        )
        x += 23 + text_width(text, 12) + 12
    return out
