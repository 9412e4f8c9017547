"""Segment files of the outbox: a line is a CRC-32, the event's number and its JSON."""

import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from device_agent.storage.files import read_file
from protocol.limits import MAX_MESSAGE
from protocol.messages import AnyEvent, HealthEvent

BATCH_BYTES = MAX_MESSAGE - 2 * 1024
"""Bytes of events in one message; the rest is for the batch around them."""

GAP = "outbox_gap"
"""Kind of the HealthEvent that counts what was lost."""
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)

SMALLEST_LINE = 32
"""Bytes; no event is smaller."""

Line = tuple[int, bytes]
"""An event's number and its JSON."""


def pack(seq: int, text: bytes) -> bytes:
    """The line of one event."""
    body = b"%d %s" % (seq, text)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def unpack(line: bytes) -> Line | None:
    """The event of a line without its newline, None when it is damaged."""
    checksum, _, body = line.partition(b" ")
    number, _, text = body.partition(b" ")
    if len(checksum) != 8 or not number.isdigit() or not text:
        return None
    try:
        return (int(number), text) if int(checksum, 16) == zlib.crc32(body) else None
    except ValueError:
        return None


def is_power(text: bytes) -> bool:
    """Whether an event is a power sample: the first to go when there is no room."""
    return b'"type":"power"' in text


def read_lines(path: Path) -> tuple[list[Line], int]:
    """The good lines of a segment and how many damaged ones stand between them; a torn end is not counted."""
    return _lines(read_file(path))


def _lines(data: bytes) -> tuple[list[Line], int]:
    lines = [unpack(line) for line in data.split(b"\n")[:-1]]
    good: list[Line] = []
    for line in lines:
        # One that stands there twice, or where it does not belong, would be sent twice or never.
        if line is not None and (not good or line[0] > good[-1][0]):
            good.append(line)
    return good, len(lines) - len(good)


@dataclass(slots=True)
class Segment:
    """One file and what is known of it: bytes, events, power samples among them, highest number."""

    path: Path
    size: int = 0
    count: int = 0
    power: int = 0
    last: int = 0

    def add(self, seq: int, size: int, *, power: bool) -> None:
        """An event was written to it."""
        self.size += size
        self.count += 1
        self.power += power
        self.last = seq


@dataclass(frozen=True, slots=True)
class Found:
    """What a start finds in a file: ``good`` is what to write in its place (None: nothing to mend), ``damaged`` counts
    lines between good ones, ``given`` is the highest number that may have stood in it."""

    segment: Segment
    good: bytes | None
    damaged: int
    given: int


def examine(path: Path, known: int) -> Found:
    """Look at ``<first number>.log`` after a start; changes nothing. ``known`` is the highest number that the outbox
    has been told of elsewhere. Raises OSError."""
    data = read_file(path)
    lines, damaged = _lines(data)
    segment = Segment(path)
    for seq, text in lines:
        segment.add(seq, len(pack(seq, text)), power=is_power(text))
    # What is damaged between good lines has numbers between theirs; how many stood after the last one nobody knows.
    end = data.rindex(pack(*lines[-1])) + len(pack(*lines[-1])) if lines else 0
    given, torn = max(segment.last, int(path.stem) - 1), -(-(len(data) - end) // SMALLEST_LINE)
    if torn:  # after a file was mended, the numbers in it go on from ``known``
        given = max(given, known) + torn
    good = b"".join(pack(*line) for line in lines) if len(data) != segment.size else None
    return Found(segment, good, damaged, given)


def counted(lines: Iterable[Line], committed: int) -> Counter[str]:
    """How many uncommitted events these are; a gap among them stands for all it told of."""
    lost: Counter[str] = Counter()
    for seq, text in lines:
        if seq <= committed:
            continue
        gap = _gap(text) if GAP.encode() in text else None
        if gap is not None:
            lost.update({name: int(count) for name, count in gap.figures.items()})
        else:
            lost["power" if is_power(text) else "other"] += 1
    return lost


def _gap(text: bytes) -> HealthEvent | None:
    try:
        event = event_in(text)
    except ValueError:
        return None
    return event if isinstance(event, HealthEvent) and event.kind == GAP else None


def event_in(text: bytes) -> AnyEvent:
    """The event of a line's JSON. Raises ValueError, as ``read_record`` does."""
    try:
        return _decoder.decode(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
