"""Lip error before and after, drawn beside the mean pose: what a mouth that never moves would score. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from dashboards.charts import Bar, bar_chart
from dashboards.formats import decimal
from dashboards.selectors_rollout import LipFigure, LipRow

DIGITS = 2


@dataclass(frozen=True)
class LipChart:
    """One segment: its picture, and who measured it."""

    segment: str
    svg: SafeString
    measured: str


def lip_charts(rows: Sequence[LipRow]) -> list[LipChart]:
    """One chart per segment, all on one scale."""
    longest = max((value for row in rows for value in _values(row)), default=0.0)
    return [_chart(number, row, longest) for number, row in enumerate(rows, 1)]


def _values(row: LipRow) -> list[float]:
    return [row.mean_pose_mm, *(figure.lip_mm for figure in (row.before, row.after) if figure)]


def _chart(number: int, row: LipRow, longest: float) -> LipChart:
    bars = [
        Bar(kind, name, figure.lip_mm, _millimetres(figure.lip_mm))
        for kind, name, figure in (("before", _("Before"), row.before), ("after", _("After"), row.after))
        if figure is not None
    ]
    bars.append(Bar("mean", _("Mean pose"), row.mean_pose_mm, _millimetres(row.mean_pose_mm)))
    figure = row.after or row.before
    limit = figure.limit_mm if figure else None
    svg = bar_chart(
        chart_id=f"lips-{number}",
        title=_("Lip error, {segment}").format(segment=row.segment),
        description=_(", ").join(f"{bar.name} {bar.text}" for bar in bars),
        bars=bars,
        longest=longest,
        limit=None if limit is None else (limit, _("limit {limit}").format(limit=_millimetres(limit))),
    )
    measured = _(", ").join(
        _("{when}: {frames}").format(when=when, frames=_frames(figure))
        for when, figure in ((_("Before"), row.before), (_("After"), row.after))
        if figure is not None
    )
    return LipChart(row.segment, mark_safe(svg), measured)  # noqa: S308 - charts escape every word


def _millimetres(value: float) -> str:
    return _("{number} mm").format(number=decimal(value, DIGITS))


def _frames(figure: LipFigure) -> str:
    frames = ngettext("{count} frame", "{count} frames", figure.frames).format(count=figure.frames)
    if not figure.simulated:
        return frames
    simulated = ngettext("{count} simulated", "{count} simulated", figure.simulated).format(count=figure.simulated)
    return _("{frames} ({simulated})").format(frames=frames, simulated=simulated)
