"""Charts as SVG text: plain data in, one accessible picture out. No I/O, no Django, no inline styles.

Colours come from the page's CSS through the classes ``series-N`` and ``part-NAME``, so one picture is right in light
and dark. Every word drawn is escaped. Lengths are units of the view box; the page scales the picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from html import escape
from itertools import pairwise
from math import ceil, floor, isfinite, log10

WIDTH = 384.0
LEFT = 46.0
RIGHT = 14.0
LEGEND_HEIGHT = 22.0
MARK_ROW_HEIGHT = 13.0
PLOT_HEIGHT = 150.0
AXIS_HEIGHT = 24.0
NOTE_HEIGHT = 15.0
MAX_MARK_ROWS = 3
MAX_DAY_TICKS = 6
DAY_TICK_GAP = 16.0
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
class Mark:
    """A moment that matters to every line, drawn as an upright line with a short label; without one when it is ""."""

    at: datetime
    label: str


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


def nice_ticks(low: float, high: float, wanted: int = 4) -> tuple[float, ...]:
    """Round numbers that span [low, high]: steps of 1, 2 or 5 times a power of ten, at least two of them."""
    if not (isfinite(low) and isfinite(high)):
        raise ValueError("an axis needs finite ends")
    size = max(abs(low), abs(high))
    if high - low <= max(size, 1e-3) * 1e-6:  # one value, or as good as one
        pad = size * 0.1 if size > 1e-6 else 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / wanted
    power = 10.0 ** floor(log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999999)
    first, last = floor(low / step + 1e-9), -floor(-high / step + 1e-9)
    return tuple(round(index * step, 10) for index in range(first, last + 1))


def text_width(text: str, size: float = 11.0) -> float:
    """A good guess at a text's width: CJK characters are square, the others a little over half of that."""
    return sum(size if ord(char) > 0x2E7F else size * 0.56 for char in text)


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


def _moment(at: datetime) -> float:
    return at.toordinal() + (at.hour * 3600 + at.minute * 60 + at.second) / 86_400


def _mark_rows(marks: Sequence[tuple[float, str]]) -> list[int]:
    """The row of each label such that neighbours do not write over each other."""
    ends = [float("-inf")] * MAX_MARK_ROWS
    rows = []
    for x, label in marks:
        if not label:
            rows.append(0)
            continue
        row = next((number for number, end in enumerate(ends) if end + 4 <= x), MAX_MARK_ROWS - 1)
        ends[row] = x + 4 + text_width(label, 10)
        rows.append(row)
    return rows


def _day_ticks(days: Sequence[date], day_label: Callable[[date], str]) -> list[tuple[date, str]]:
    """The days named below the axis: evenly spaced, and as many as fit without touching."""
    first, last = days[0].toordinal(), days[-1].toordinal()
    widest = max(text_width(day_label(day), 11) for day in days) + DAY_TICK_GAP
    day_width = (WIDTH - LEFT - RIGHT) / (last + 1 - first)
    step = max(1, ceil((last - first) / (MAX_DAY_TICKS - 1)), ceil(widest / day_width))
    return [(day, day_label(day)) for day in map(date.fromordinal, range(first, last + 1, step))]


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
    start, end = days[0].toordinal(), days[-1].toordinal() + 1

    def x_of(moment: float) -> float:
        return LEFT + (moment - start) / (end - start) * (WIDTH - LEFT - RIGHT)

    shown = sorted((x_of(_moment(m.at)), m.label) for m in marks if start <= _moment(m.at) <= end)
    rows = _mark_rows(shown)
    top = LEGEND_HEIGHT + MARK_ROW_HEIGHT * (max(rows) + 1 if rows else 0) + 4
    bottom = top + PLOT_HEIGHT
    height = bottom + AXIS_HEIGHT + (NOTE_HEIGHT if note else 0)

    def y_of(value: float) -> float:
        return bottom - (value - ticks[0]) / (ticks[-1] - ticks[0]) * PLOT_HEIGHT

    ident = escape(chart_id)
    out = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-labelledby="{ident}-title {ident}-desc" xmlns="http://www.w3.org/2000/svg">',
        f'<title id="{ident}-title">{escape(title)}</title><desc id="{ident}-desc">{escape(description)}</desc>',
    ]
    x = LEFT
    for line in series:
        out.append(
            f'<g class="legend series-{line.slot}"><line class="line" x1="{x:.1f}" y1="9" x2="{x + 22:.1f}" y2="9"/>'
            f'{_marker(line.slot, x + 11, 9, False)}<text x="{x + 28:.1f}" y="13">{escape(line.name)}</text></g>'
        )
        x += 28 + text_width(line.name, 12) + 18
    for tick in ticks:
        y = y_of(tick)
        kind = "axis" if tick == ticks[0] else "grid"
        out.append(f'<line class="{kind}" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        words = escape(number(tick))
        out.append(f'<text class="tick" x="{LEFT - 7}" y="{y + 3.8:.1f}" text-anchor="end">{words}</text>')
    for day, label in _day_ticks(days, day_label):
        x = x_of(day.toordinal() + 0.5)
        out.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{escape(label)}</text>')
    for (x, label), row in zip(shown, rows, strict=True):
        y = LEGEND_HEIGHT + MARK_ROW_HEIGHT * row if label else top
        anchor, offset = ("end", -4) if x + 4 + text_width(label, 10) > WIDTH else ("start", 4)
        words = f'<text x="{x + offset:.1f}" y="{y + 10:.1f}" text-anchor="{anchor}">{escape(label)}</text>'
        out.append(
            f'<g class="mark"><line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>'
            f"{words if label else ''}</g>"
        )
    if note:
        x = (LEFT + WIDTH - RIGHT) / 2
        out.append(f'<text class="tick" x="{x:.1f}" y="{height - 4:.1f}" text-anchor="middle">{escape(note)}</text>')
    out.extend(_line(s, [(x_of(p.day.toordinal() + 0.5), y_of(p.value), p) for p in s.points]) for s in series)
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
    ident = escape(chart_id)
    out = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-labelledby="{ident}-title {ident}-desc" xmlns="http://www.w3.org/2000/svg">',
        f'<title id="{ident}-title">{escape(title)}</title><desc id="{ident}-desc">{escape(description)}</desc>',
    ]
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
