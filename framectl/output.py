"""What commands print: tables and bars for people, one JSON document for programs."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any, TextIO
from unicodedata import east_asian_width

DONE, OPEN = "█", "░"


def show(arguments: Namespace, data: Any, text: str | Callable[[], str]) -> None:
    """Print ``data`` as JSON with --json, else ``text``."""
    if getattr(arguments, "json", False):
        print(json.dumps(data, ensure_ascii=False, indent=2, default=str))
    else:
        print(text if isinstance(text, str) else text())


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; None is shown as a dash."""
    cells = [list(headings), *[[_cell(value) for value in row] for row in rows]]
    widths = [max(_width(row[column]) for row in cells) for column in range(len(headings))]
    lines = []
    for row in cells:
        parts = [text + " " * (width - _width(text)) for text, width in zip(row, widths, strict=True)]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def bar(done: int, total: int, width: int = 24) -> str:
    """A progress bar; full only when everything is done."""
    filled = width * done // total if total else 0
    return DONE * filled + OPEN * (width - filled)


def printable(text: object) -> str:
    """Text from the server without control characters: it must not move the cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


class Live:
    """A few lines that are redrawn in place on a terminal; elsewhere, each line is printed once when it changes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._tty = self._stream.isatty()
        self._shown: list[str] = []

    def show(self, lines: list[str]) -> None:
        """These lines now."""
        if lines == self._shown:
            return
        if self._tty:
            up = f"\x1b[{len(self._shown)}A" if self._shown else ""
            self._stream.write(up + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[J")
        else:
            known = set(self._shown)
            self._stream.write("".join(f"{line}\n" for line in lines if line not in known))
        self._stream.flush()
        self._shown = list(lines)


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else printable(value)


def _width(text: str) -> int:
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)
