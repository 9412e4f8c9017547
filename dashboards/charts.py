"""Charts as SVG text: plain data in, one accessible picture out. No I/O, no Django, no inline styles.

Colours come from the page's CSS through the classes ``series-N`` and ``part-NAME``, so one picture is right in light
and dark. Every word drawn is escaped. Lengths are units of the view box; the page scales the picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from itertools import pairwise

from dashboards import axes
from dashboards.axes import LEFT, WIDTH, Mark, nice_ticks, text_width

MAX_DOTS = 45


@dataclass(frozen=True)
class Point:
    """One day's value. ``thin``: drawn hollow, because too little stands behind it. ``label`` is the tooltip."""

    day: date
    value: float
    label: str
    thin: bool = False


@dataclass(frozen=True)
class Series:
    """One line. ``slot`` fixes its colour and marker, so that an arm looks the same in every chart."""

    name: str
    slot: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Bar:
    """One lying bar with its name before it and its figure behind it; ``kind`` becomes the class ``bar-KIND``."""

    kind: str
    name: str
    value: float
    text: str


@dataclass(frozen=True)
class Part:
    """One piece of a stacked bar; ``kind`` becomes the class ``part-KIND``."""

    kind: str
    count: int
    label: str


def _marker(slot: int, x: float, y: float, thin: bool) -> str:
    kind = "dot thin" if thin else "dot"
    match slot % 3:
        case 0:
            return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
        case 1:
            return f'<rect class="{kind}" x="{x - 3.2:.1f}" y="{y - 3.2:.1f}" width="6.4" height="6.4"/>'
        case _:
            corners = f"{x:.1f},{y - 4.2:.1f} {x + 4:.1f},{y + 3:.1f} {x - 4:.1f},{y + 3:.1f}"
            return f'<polygon class="{kind}" points="{corners}"/>'


def line_chart(
    *,
    chart_id: str,
    title: str,
    description: str,
    series: Sequence[Series],
    number: Callable[[float], str],
    day_label: Callable[[date], str],
    marks: Sequence[Mark] = (),
    from_zero: bool = False,
    note: str = "",
) -> str:
    """Lines per day with markers, axes, legend and marked moments; "" when there is no point at all.

    ``title`` and ``description`` are what a screen reader says, ``note`` stands below the days. Marks outside the days
    drawn are left out.
    """
    days = sorted({point.day for line in series for point in line.points})
    if not days:
        return ""
    values = [point.value for line in series for point in line.points]
    ticks = nice_ticks(0.0 if from_zero else min(values), max(values) or (1.0 if from_zero else 0.0))
    # A day is a bin: its point sits at noon, so that a moment within the day falls beside it, not on its edge.
    at = axes.ground(days[0].toordinal(), days[-1].toordinal() + 1, ticks, marks)
    height = at.bottom + axes.AXIS_HEIGHT + (axes.NOTE_HEIGHT if note else 0)
    out = [axes.opened(chart_id, title, description, height)]
    x = LEFT
    for line in series:
        out.append(
            f'<g class="legend series-{line.slot}"><line class="line" x1="{x:.1f}" y1="9" x2="{x + 22:.1f}" y2="9"/>'
            f'{_marker(line.slot, x + 11, 9, False)}<text x="{x + 28:.1f}" y="13">{escape(line.name)}</text></g>'
        )
        x += 28 + text_width(line.name, 12) + 18
    out += [*axes.grid(at, number), *axes.day_axis(at, days, day_label), *axes.upright(at), axes.below(note, height)]
    out.extend(_line(s, [(at.x_of(p.day.toordinal() + 0.5), at.y_of(p.value), p) for p in s.points]) for s in series)
    out.append("</svg>")
    return "".join(out)


def _line(line: Series, placed: Sequence[tuple[float, float, Point]]) -> str:
    placed = sorted(placed, key=lambda item: item[0])
    out = [f'<g class="series-{line.slot}">']
    if len(placed) > 1:
        # A gap of days without playbacks is a gap in the line: nothing is drawn between what was measured.
        path = [f"M{placed[0][0]:.1f} {placed[0][1]:.1f}"]
        for (_, _, before), (x, y, point) in pairwise(placed):
            joined = (point.day - before.day).days == 1
            path.append(f"{'L' if joined else 'M'}{x:.1f} {y:.1f}")
        out.append(f'<path class="line" d="{"".join(path)}"/>')
    for x, y, point in placed:
        dot = _marker(line.slot, x, y, point.thin) if len(placed) <= MAX_DOTS or point.thin else ""
        out.append(
            f'<g class="point"><title>{escape(point.label)}</title>'
            f'<circle class="hit" cx="{x:.1f}" cy="{y:.1f}" r="9"/>{dot}</g>'
        )
    out.append("</g>")
    return "".join(out)


def stacked_bar(*, label: str, parts: Sequence[Part], width: float = 240.0, height: float = 12.0) -> str:
    """One bar cut into parts by count, thin gaps between them; a part that is there at all is at least 3 wide."""
    parts = [part for part in parts if part.count > 0]
    total = sum(part.count for part in parts)
    out = [
        f'<svg class="bar" viewBox="0 0 {width:.0f} {height:.0f}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">',
        f'<rect class="part-empty" x="0" y="0" width="{width:.0f}" height="{height:.0f}" rx="3"/>',
    ]
    gap, least, x = 1.5, 3.0, 0.0
    spare = width - gap * (len(parts) - 1) - least * len(parts)
    for part in parts:
        wide = least + spare * part.count / total
        out.append(
            f'<rect class="part-{escape(part.kind)}" x="{x:.1f}" y="0" width="{wide:.1f}" height="{height:.0f}" rx="2">'
            f"<title>{escape(part.label)}</title></rect>"
        )
        x += wide + gap
    out.append("</svg>")
    return "".join(out)


def bar_chart(
    *, chart_id: str, title: str, description: str, bars: Sequence[Bar], longest: float, limit: tuple[float, str] | None
) -> str:
    """Lying bars from zero, one below the other, on a scale that ends at ``longest``; ``limit`` is an upright line with
    its words. "" when there is no bar."""
    if not bars:
        return ""
    row, thick = 24.0, 14.0
    names = max(text_width(bar.name, 12) for bar in bars) + 10
    figures = max(text_width(bar.text, 14) for bar in bars) + 12  # they are bold
    room = WIDTH - names - figures
    scale = room / max([longest, *(bar.value for bar in bars), limit[0] if limit else 0.0, 1e-9])
    top = 18.0 if limit else 2.0
    height = top + row * len(bars)
    out = [axes.opened(chart_id, title, description, height)]
    texts = []
    for number, bar in enumerate(bars):
        y = top + row * number + (row - thick) / 2
        wide = max(bar.value * scale, 1.0)
        out.append(
            f'<text x="0" y="{y + 11:.1f}">{escape(bar.name)}</text>'
            f'<rect class="bar-{escape(bar.kind)}" x="{names:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{thick:.0f}" '
            f'rx="2"/>'
        )
        texts.append(f'<text class="figure" x="{names + wide + 7:.1f}" y="{y + 11:.1f}">{escape(bar.text)}</text>')
    if limit:
        x = names + limit[0] * scale
        anchor = "end" if x + text_width(limit[1], 10) / 2 > WIDTH else "middle"
        out.append(
            f'<g class="mark"><line x1="{x:.1f}" y1="{top - 2:.1f}" x2="{x:.1f}" y2="{height:.1f}"/>'
            f'<text x="{x:.1f}" y="11" text-anchor="{anchor}">{escape(limit[1])}</text></g>'
        )
    # Last, with a halo in the surface's colour, so that the limit's line never strikes a figure through.
    out.extend(texts)
    out.append("</svg>")
    return "".join(out)
