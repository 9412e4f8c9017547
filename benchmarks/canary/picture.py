"""The frontier as an SVG of its own, on a light background: no plotting library is needed for two panels of lines."""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.canary.frontier import HARMS
from benchmarks.canary.peers import OURS

WIDTH, HEIGHT = 1180, 560
LEFT, TOP, PANEL_W, PANEL_H, GAP = 74, 84, 440, 380, 120
COLOURS = {
    "completion": "#0b6e4f",
    "power": "#b35900",
    "complaints": "#5b3aa8",
    OURS: "#0b6e4f",
    "threshold": "#b00020",
    "mann_whitney": "#8a6d00",
    "z_playbacks": "#b35900",
    "gbstats_playbacks": "#5b3aa8",
    "gbstats_frames": "#1f5fbf",
}
NAMES = {
    OURS: "framefleet",
    "threshold": "raw threshold",
    "mann_whitney": "Mann-Whitney (Kayenta)",
    "z_playbacks": "repeated z, playbacks",
    "gbstats_playbacks": "gbstats sequential, playbacks",
    "gbstats_frames": "gbstats sequential, frames",
}
STRETCH = {"completion": 80, "power": 40, "complaints": 170}
SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
HOURS = (6, 12, 24, 48, 96, 192, 336)
Point = tuple[float, float]


class Panel:
    """Log scales both: false rollbacks along x, hours along y."""

    def __init__(self, number: int, title: str, note: str) -> None:
        self.x0 = LEFT + number * (PANEL_W + GAP)
        self.parts = [
            _text(self.x0, TOP - 30, title, 16, weight="bold"),
            _text(self.x0, TOP - 11, note, 12, fill="#555"),
            f'<rect x="{self.x0}" y="{TOP}" width="{PANEL_W}" height="{PANEL_H}" fill="#fff" stroke="#999"/>',
        ]
        for share in SHARES:
            x = self.at(share, HOURS[0])[0]
            self._line((x, TOP), (x, TOP + PANEL_H), "#e4e4e4")
            self.parts.append(_text(x, TOP + PANEL_H + 18, f"{share * 100:g} %", 12, anchor="middle"))
        for hours in HOURS:
            y = self.at(1.0, hours)[1]
            self._line((self.x0, y), (self.x0 + PANEL_W, y), "#e4e4e4")
            self.parts.append(_text(self.x0 - 8, y + 4, f"{hours} h", 12, anchor="end"))
        middle = self.x0 + PANEL_W / 2
        self.parts.append(_text(middle, TOP + PANEL_H + 40, "releases without effect rolled back", 13, anchor="middle"))

    def at(self, share: float, hours: float) -> Point:
        """In pixels; shares below the scale lie on its edge."""
        x = math.log(max(share, SHARES[0]) / SHARES[0]) / math.log(SHARES[-1] / SHARES[0])
        y = math.log(min(max(hours, HOURS[0]), HOURS[-1]) / HOURS[0]) / math.log(HOURS[-1] / HOURS[0])
        return self.x0 + x * PANEL_W, TOP + PANEL_H - y * PANEL_H

    def curve(self, points: Sequence[tuple[float, float]], marked: int | None, colour: str, label: str) -> None:
        """(share, hours) points joined; ``marked`` is the one in use."""
        places = [self.at(*point) for point in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for number, (x, y) in enumerate(places):
            size = 6 if number == marked else 2.5
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour}"/>')
        self.legend(colour, label)

    def legend(self, colour: str, label: str) -> None:
        """In the corner where everybody wants to be and nobody is."""
        row = sum('class="key"' in part for part in self.parts)
        y = TOP + PANEL_H - 112 + row * 18
        x = self.x0 + 16
        self.parts.append(f'<rect class="key" x="{x}" y="{y - 8}" width="12" height="8" fill="{colour}"/>')
        self.parts.append(_text(x + 18, y, label, 12))

    def goal(self, share: float, hours: float, colour: str) -> None:
        """A corner: to be left of and below."""
        x, y = self.at(share, hours)
        self._line((self.x0, y), (x, y), colour, "5 4")
        self._line((x, y), (x, y + 14), colour, "5 4")

    def _line(self, a: Point, b: Point, colour: str, dash: str = "") -> None:
        style = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" stroke="{colour}"{style}/>'
        )


def draw(ours: Sequence[Mapping[str, Any]], peers: Mapping[str, Sequence[Mapping[str, Any]]], alpha: float) -> str:
    """SVG from ``frontier.staged_lines`` and ``frontier.peer_lines``."""
    left = Panel(0, "Staged rollout, 2,300 frames", "by alpha; large dot: in use; dashed: stretch targets at 2.5 %")
    for name in HARMS:
        left.curve(*_points(ours, name, "false_rollback", "alpha", alpha), COLOURS[name], name)
        left.goal(0.025, STRETCH[name], COLOURS[name])
    right = Panel(
        1, "Completion 78 → 74 %, 5 % canary, 14 days", "by level; large dot: usual; no line: median never reached"
    )
    usual = {"threshold": 1.0}
    for name, points in peers.items():
        shown, marked = _points(points, "completion", "false_alarm", "level", usual.get(name, alpha))
        right.curve(shown, marked, COLOURS[name], NAMES[name])
    body = "\n".join([*left.parts, *right.parts])
    title = "Hours until a harmful release is rolled back, against false rollbacks (simulated fleets)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif"><title>{escape(title)}</title><rect width="100%" height="100%" fill="#fafafa"/>\n'
        f"{_text(LEFT, 30, title, 18, weight='bold')}\n{body}\n</svg>\n"
    )


def _points(
    lines: Sequence[Mapping[str, Any]], name: str, share: str, level: str, used: float
) -> tuple[list[tuple[float, float]], int | None]:
    """Those with a median, and which of them is in use."""
    some = [line for line in lines if line[name]["median_h"] is not None]
    marked = next((number for number, line in enumerate(some) if line[level] == used), None)
    return [(line[share], line[name]["median_h"]) for line in some], marked


def _text(
    x: float, y: float, text: str, size: int, anchor: str = "start", weight: str = "normal", fill: str = "#222"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{fill}">{escape(text)}</text>'
    )
