"""Completion, complaints and power as charts and tables, from plain rows. Pure.

Whatever is drawn can be read as a table too, and a figure with too little behind it is drawn hollow.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from dashboards import words
from dashboards.axes import Mark
from dashboards.charts import Point, Series, line_chart
from dashboards.formats import day as day_words
from dashboards.formats import decimal, percent, watts
from ota.selectors import RolloutDetail
from ota.selectors_metrics import MetricRow

MIN_PLAYBACKS = 100
"""Fewer playbacks than this in an arm are no evidence of anything."""
MIN_FRAMES = 20
"""So are fewer frames than this."""
THIN_DAY = 20
"""A day's rate over fewer playbacks than this is drawn hollow."""

NEAR = timedelta(days=1)
"""Stages that open within this share one label in a chart."""

SLOTS = {"canary": 0, "control": 1, "holdback": 2}


class DayRow(Protocol):
    """One day of one line: ota's DayRow and this package's DayFigures both are."""

    @property
    def day(self) -> date: ...
    @property
    def playbacks(self) -> int: ...
    @property
    def completion_rate(self) -> float | None: ...
    @property
    def complaint_rate(self) -> float | None: ...
    @property
    def power_w(self) -> float | None: ...


Line = tuple[int, words.Words, Sequence[DayRow]]
"""One line of a chart: slot (colour and marker), name, rows in order of their days."""


@dataclass(frozen=True)
class Metric:
    """One of the three measures: how to read it off a row, and how to write it."""

    key: str
    title: words.Words
    read: Callable[[DayRow], float | None]
    write: Callable[[float], str]
    tick: Callable[[float], str]
    from_zero: bool


def _per_thousand(row: DayRow) -> float | None:
    return None if row.complaint_rate is None else row.complaint_rate * 1000


METRICS = (
    Metric(
        "completion",
        words.METRIC["completion"],
        lambda row: row.completion_rate,
        percent,
        lambda value: percent(value, 0),
        False,
    ),
    Metric(
        "complaints",
        words.METRIC["complaints"],
        _per_thousand,
        lambda value: decimal(value, 1),
        lambda value: decimal(value, 0 if value == int(value) else 1),
        True,
    ),
    Metric("power", words.METRIC["power"], lambda row: row.power_w, watts, watts, False),
)


@dataclass(frozen=True)
class Table:
    """The same figures in words: one row per day, one column per line."""

    columns: tuple[words.Words, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Chart:
    """One metric, drawn and tabulated; ``svg`` is empty where nothing was measured. ``note``: whose days they are."""

    key: str
    title: words.Words
    svg: SafeString
    table: Table
    note: str


def charts(prefix: str, lines: Sequence[Line], marks: Sequence[Mark], *, simulated: bool) -> list[Chart]:
    """The three charts of these lines. ``prefix`` makes the ids on the page unique; ``simulated``: simulated people's
    days are among those drawn, and every chart says so."""
    note = _("Simulated people's days") if simulated else ""
    return [_chart(prefix, metric, lines, marks, note) for metric in METRICS]


def arm_charts(rollout: RolloutDetail, opened: Sequence[tuple[int, datetime]]) -> list[Chart]:
    """Canary beside control by day, with the openings of the stages (number, moment) marked."""
    arms = sorted({row.arm for row in rollout.daily}, key=lambda arm: SLOTS.get(arm, 2))
    lines = [(SLOTS.get(arm, 2), words.arm(arm), [row for row in rollout.daily if row.arm == arm]) for arm in arms]
    return charts("arms", lines, stage_marks(opened), simulated=rollout.simulated > 0)


def stage_marks(opened: Iterable[tuple[int, datetime]]) -> list[Mark]:
    """A line for every opening. Those within a day of the first of them share one label, or they would cover one
    another."""
    groups: list[list[tuple[datetime, int]]] = []
    for moment, number in sorted((moment, number) for number, moment in opened):
        if groups and moment - groups[-1][0][0] < NEAR:
            groups[-1].append((moment, number))
        else:
            groups.append([(moment, number)])
    marks = []
    for group in groups:
        numbers = [number for _moment, number in group]
        marks.append(Mark(group[0][0], _stages(min(numbers), max(numbers))))
        marks += [Mark(moment, "") for moment, _number in group[1:]]
    return marks


def _stages(first: int, last: int) -> str:
    if first == last:
        return _("Stage {number}").format(number=first)
    return _("Stages {first}–{last}").format(first=first, last=last)


def _chart(prefix: str, metric: Metric, lines: Sequence[Line], marks: Sequence[Mark], note: str) -> Chart:
    series = [Series(str(name), slot, tuple(_points(metric, str(name), rows))) for slot, name, rows in lines]
    svg = line_chart(
        chart_id=f"{prefix}-{metric.key}",
        title=_("{metric} by day").format(metric=metric.title),
        description=" ".join(_summary(metric, line) for line in series if line.points),
        series=[line for line in series if line.points],
        number=metric.tick,
        day_label=day_words,
        marks=marks,
        from_zero=metric.from_zero,
        note=note,
    )
    return Chart(metric.key, metric.title, mark_safe(svg), _table(metric, lines), note)  # noqa: S308 - charts escape


def _points(metric: Metric, name: str, rows: Iterable[DayRow]) -> Iterable[Point]:
    for row in rows:
        value = metric.read(row)
        if value is None:
            continue
        label = _("{line}, {day}: {value} ({playbacks})").format(
            line=name, day=day_words(row.day), value=metric.write(value), playbacks=_playbacks(row.playbacks)
        )
        yield Point(row.day, value, label, thin=row.playbacks < THIN_DAY)


def _playbacks(count: int) -> str:
    return ngettext("{count} playback", "{count} playbacks", count).format(count=decimal(count, 0))


def _summary(metric: Metric, line: Series) -> str:
    first, last = line.points[0], line.points[-1]
    return _("{line}: {first} on {first_day}, {last} on {last_day}.").format(
        line=line.name,
        first=metric.write(first.value),
        first_day=day_words(first.day),
        last=metric.write(last.value),
        last_day=day_words(last.day),
    )


def _table(metric: Metric, lines: Sequence[Line]) -> Table:
    cells: dict[date, dict[int, str]] = {}
    for slot, _name, rows in lines:
        for row in rows:
            value = metric.read(row)
            cell = "–" if value is None else f"{metric.write(value)} · n = {decimal(row.playbacks, 0)}"
            cells.setdefault(row.day, {})[slot] = cell
    slots = [slot for slot, _name, _rows in lines]
    return Table(
        columns=tuple(name for _slot, name, _rows in lines),
        rows=tuple((day_words(day), tuple(row.get(slot, "–") for slot in slots)) for day, row in sorted(cells.items())),
    )


@dataclass(frozen=True)
class MetricLine:
    """One arm under one release. ``thin``: too little for evidence, and the sentence that says so."""

    arm: words.Words
    release: str
    digest: str
    frames: int
    playbacks: int
    completion: str
    complaints: str
    power: str
    thin: str


def metric_lines(rows: Sequence[MetricRow]) -> list[MetricLine]:
    """The metrics table, canary first."""
    ordered = sorted(rows, key=lambda row: (SLOTS.get(row.arm, 2), row.release_name, row.release))
    return [
        MetricLine(
            arm=words.arm(row.arm),
            release=row.release_name,
            digest=row.release,
            frames=row.frames,
            playbacks=row.playbacks,
            completion="–" if row.completion_rate is None else percent(row.completion_rate),
            complaints="–" if row.complaint_rate is None else decimal(row.complaint_rate * 1000),
            power="–" if row.power_w is None else watts(row.power_w),
            thin=_thin(row),
        )
        for row in ordered
    ]


def _thin(row: MetricRow) -> str:
    if row.playbacks >= MIN_PLAYBACKS and row.frames >= MIN_FRAMES:
        return ""
    return _("not enough evidence yet")
