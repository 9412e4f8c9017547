"""``framectl segments``: which households complain more than the rest, and the group that means them."""

from argparse import ArgumentParser, Namespace
from typing import Any

from framectl.client import Client
from framectl.output import show, table

LANGUAGES = {
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "ja": "Japanese",
    "ko": "Korean",
    "yue": "Cantonese",
    "zh": "Mandarin",
}
"""What people call a locale that names no country."""


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``segments``"""
    top = groups.add_parser("segments", parents=[common], help="which households complain more than the rest")
    top.add_argument("--days", type=int, default=14, help="of the last days (default 14)")
    top.add_argument("--group", help="among the frames of this FrameGroup (default: the whole fleet)")
    top.add_argument("--all", action="store_true", help="also segments whose excess may be chance")
    top.set_defaults(run=_list)


def _list(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        found = client.get("segments/", days=arguments.days, group=arguments.group)
    show(arguments, found, lambda: _described(found, arguments.all))


def _described(found: dict[str, Any], every: bool) -> str:
    rows = [row for row in found["results"] if every or row["notable"]]
    if not rows:
        compared = len(found["results"])
        if not compared:
            return f"No segment had enough frames and playbacks in {found['days']} days to be compared."
        return f"None of {compared} segments complains notably more than the rest; --all shows them."
    headings = ("SEGMENT", "COMPLAINS", "BETWEEN", "FRAMES", "PLAYBACKS", "COMPLAINT DAYS", "GROUP QUERY")
    return table(headings, [_line(row) for row in rows])


def _line(row: dict[str, Any]) -> tuple[object, ...]:
    high = "more" if row["high"] is None else f"{row['high']:.1f}x"
    simulated = f" ({row['simulated']} simulated)" if row["simulated"] else ""
    return (
        f"{_name(row)}{'' if row['notable'] else ' (may be chance)'}",
        f"{row['ratio']:.1f}x",
        f"{row['low']:.1f}x and {high}",
        f"{row['frames']}{simulated}",
        row["playbacks"],
        row["complaints"],
        row["query"],
    )


def _name(row: dict[str, Any]) -> str:
    """``Mandarin, quiet``, or ``hardware rk3588``."""
    keys = row["key"].split(" & ")
    values = row["value"].split(" & ") if len(keys) > 1 else [row["value"]]
    parts = []
    for key, value in zip(keys, values, strict=False):
        if key == "locale" and value in LANGUAGES:
            parts.append(LANGUAGES[value])
        else:
            parts.append(f"{key} {value}")
    return ", ".join(parts)
