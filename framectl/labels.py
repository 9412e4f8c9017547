"""Labels: what a frame is claimed with, as a QR code and as letters that people can type."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape

import segno

from framectl.errors import CommandFailed
from protocol.birth import read_claim
from protocol.errors import Refused
from protocol.topics import is_frame_id

COLUMNS = ("frame_id", "token", "url")
MAX_URL = 300
_WIDTH, _LINE = 46, 4.2
"""Of a label, in modules of a QR code."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of the file that ``frames import`` writes; ``url`` may be empty."""

    frame_id: str
    token: str
    url: str

    @property
    def content(self) -> str:
        """What the QR code says."""
        return self.url or self.token

    @property
    def groups(self) -> list[str]:
        """The token as people type it: five letters and digits at a time."""
        return [self.token[at : at + 5] for at in range(0, len(self.token), 5)]


def read_claims(path: Path) -> Iterator[Claim]:
    """The claims in a file, one after the other. Raises CommandFailed with one sentence that names the line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                raise CommandFailed(
                    f"{path} has no columns {', '.join(COLUMNS)}: give what `frames import` has written."
                )
            for row in reader:
                yield _claim(row, f"{path}, line {reader.line_num}")
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}.") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} is no CSV in UTF-8 ({error}).") from None


def svg(claim: Claim) -> bytes:
    """The label as SVG: frame id, QR code, token in groups of five. It scales to any size."""
    code = segno.make(claim.content, error="m", micro=False)
    drawn = BytesIO()
    code.save(drawn, kind="svg", border=0, xmldecl=False, svgns=False, omitsize=True, svgclass=None, lineclass=None)
    modules = code.symbol_size(border=0)[0]
    side = _WIDTH - 8
    lines = [" ".join(claim.groups[:3]), " ".join(claim.groups[3:])]
    height = 10 + side + _LINE * len(lines)
    inner = drawn.getvalue().decode().partition(">")[2].rpartition("</svg>")[0]
    texts = [_text(claim.frame_id, 4.4, 3.2)]
    texts += [_text(line, 8.5 + side + _LINE * place, 3.4) for place, line in enumerate(lines, start=0)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}mm" '
        f'height="{height:g}mm"><title>{escape(claim.frame_id)}</title>'
        f'<path fill="#fff" d="M0 0h{_WIDTH}v{height:g}h-{_WIDTH}z"/>'
        f'<g transform="translate(4 6) scale({side / modules:.6f})">{inner}</g>{"".join(texts)}</svg>\n'
    ).encode()


def png(claim: Claim) -> bytes:
    """The QR code alone as PNG, 8 pixels a module with its quiet zone."""
    drawn = BytesIO()
    segno.make(claim.content, error="m", micro=False).save(drawn, kind="png", scale=8, border=4)
    return drawn.getvalue()


def _text(line: str, y: float, size: float) -> str:
    style = f'font-family="monospace" font-size="{size:g}" text-anchor="middle"'
    return f'<text x="{_WIDTH / 2:g}" y="{y:g}" {style}>{escape(line)}</text>'


def _claim(row: dict[str, str], where: str) -> Claim:
    frame_id, token, url = (row.get(name) or "" for name in COLUMNS)
    try:
        token = read_claim(token)
    except Refused:
        raise CommandFailed(f"{where}: this is no claim token.") from None
    if not is_frame_id(frame_id):
        raise CommandFailed(f"{where}: {frame_id[:50]!r} is no frame id.")
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable():
        raise CommandFailed(f"{where}: this is no address.")
    return Claim(frame_id, token, url)
