"""What every chart over time is drawn on: axes, the days below, upright marks. Text alone, as ``dashboards.charts``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from html import escape
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


@dataclass(frozen=True)
class Mark:
    """A moment that matters to every line, drawn as an upright line with a short label; without one when it is ""."""

    at: datetime
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


def moment_of(at: datetime) -> float:
    """Days, as ``date.toordinal`` counts them, and the part of the day."""
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


@dataclass(frozen=True)
class Ground:
    """The plot's place: ``start`` to ``end`` in days (``moment_of``), ``ticks`` on the upright axis, marks above it."""

    start: float
    end: float
    ticks: tuple[float, ...]
    marks: tuple[tuple[float, str], ...]
    rows: tuple[int, ...]

    @property
    def top(self) -> float:
        """Where the plot begins: below the legend and the marks' labels."""
        return LEGEND_HEIGHT + MARK_ROW_HEIGHT * (max(self.rows) + 1 if self.rows else 0) + 4

    @property
    def bottom(self) -> float:
        """Where it ends."""
        return self.top + PLOT_HEIGHT

    def x_of(self, moment: float) -> float:
        """Place of a moment."""
        return x_between(moment, self.start, self.end)

    def y_of(self, value: float) -> float:
        """Place of a value."""
        return self.bottom - (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0]) * PLOT_HEIGHT


def x_between(moment: float, start: float, end: float) -> float:
    """Place of a moment between the plot's sides."""
    return LEFT + (moment - start) / (end - start) * (WIDTH - LEFT - RIGHT)


def ground(start: float, end: float, ticks: tuple[float, ...], marks: Sequence[Mark]) -> Ground:
    """Marks outside the time drawn are left out; the labels of the others stand in rows that do not touch."""
    inside = [mark for mark in marks if start <= moment_of(mark.at) <= end]
    shown = sorted((x_between(moment_of(mark.at), start, end), mark.label) for mark in inside)
    return Ground(start, end, ticks, tuple(shown), tuple(_mark_rows(shown)))


def opened(chart_id: str, title: str, description: str, height: float) -> str:
    """The picture's first tag, with what a screen reader says."""
    ident = escape(chart_id)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-labelledby="{ident}-title {ident}-desc" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{ident}-title">{escape(title)}</title><desc id="{ident}-desc">{escape(description)}</desc>'
    )


def grid(at: Ground, number: Callable[[float], str]) -> list[str]:
    """Lying lines with their numbers."""
    out = []
    for tick in at.ticks:
        y = at.y_of(tick)
        kind = "axis" if tick == at.ticks[0] else "grid"
        out.append(f'<line class="{kind}" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        words = escape(number(tick))
        out.append(f'<text class="tick" x="{LEFT - 7}" y="{y + 3.8:.1f}" text-anchor="end">{words}</text>')
    return out


def day_axis(at: Ground, days: Sequence[date], day_label: Callable[[date], str]) -> list[str]:
    """The days named below the plot, each at its noon."""
    out = []
    for day, label in _day_ticks(days, day_label):
        x = at.x_of(day.toordinal() + 0.5)
        out.append(
            f'<text class="tick" x="{x:.1f}" y="{at.bottom + 16:.1f}" text-anchor="middle">{escape(label)}</text>'
        )
    return out


def upright(at: Ground) -> list[str]:
    """The marks: upright lines, with their labels above the plot."""
    out = []
    for (x, label), row in zip(at.marks, at.rows, strict=True):
        y = LEGEND_HEIGHT + MARK_ROW_HEIGHT * row if label else at.top
        anchor, offset = ("end", -4) if x + 4 + text_width(label, 10) > WIDTH else ("start", 4)
        words = f'<text x="{x + offset:.1f}" y="{y + 10:.1f}" text-anchor="{anchor}">{escape(label)}</text>'
        out.append(
            f'<g class="mark"><line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{at.bottom:.1f}"/>'
            f"{words if label else ''}</g>"
        )
    return out


def below(text: str, height: float) -> str:
    """A note under the days; "" for none."""
    if not text:
        return ""
    x = (LEFT + WIDTH - RIGHT) / 2
    return f'<text class="tick" x="{x:.1f}" y="{height - 4:.1f}" text-anchor="middle">{escape(text)}</text>'
