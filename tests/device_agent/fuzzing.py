"""Damage for files from outside, and a limit on what reading them may take.

Random bytes never come far into a decoder. Real files are damaged instead, in the ways in which files go wrong or are
made to: cut off, bytes changed, lengths that lie, pieces lost, doubled or taken from another file.
"""

import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62)
_WIDTHS = ("<B", "<H", ">H", "<I", ">I", "<Q")


@st.composite
def damaged(draw: st.DrawFn, files: Sequence[bytes]) -> bytes:
    """One of the files after one to four injuries; most of them near its beginning, where the lengths are."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 4))):
        where = st.one_of(st.integers(0, min(200, len(data))), st.integers(0, len(data)))
        at = draw(where)
        match draw(st.sampled_from(["change", "number", "cut", "lose", "double", "insert", "borrow"])):
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "number":
                form = draw(st.sampled_from(_WIDTHS))
                size = struct.calcsize(form)
                data[at : at + size] = struct.pack(form, draw(st.sampled_from(EXTREMES)) & ((1 << 8 * size) - 1))
            case "cut":
                del data[at:]
            case "lose":
                del data[at : at + draw(st.integers(1, 5_000))]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 5_000))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=40))
            case "borrow":
                other = draw(st.sampled_from(files))
                start = draw(st.integers(0, len(other)))
                data[at : at + 400] = other[start : start + 400]
    return bytes(data)


LIES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, "", "x", "../../etc/passwd", "motion", "features", [], {}, [[]], -1, 0, 1, 2, 3, 641]),
    st.sampled_from([1 << 15, 1 << 24, 1 << 31, 1 << 63, 1e308, -1e308, 0.5, [1, 1], [0], [1 << 12, 1 << 12]]),
    st.integers(-10, 2_000),
    st.text(max_size=4),
)


@st.composite
def lying(draw: st.DrawFn, document: Any) -> Any:
    """A copy of a JSON document in which one to three places say something else, are missing or come twice."""
    result = _copied(document)
    for _ in range(draw(st.integers(1, 3))):
        holder, keys = result, []
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(holder[key], dict | list) or draw(st.integers(0, 5)) == 0:
                match draw(st.sampled_from(["say", "say", "say", "lose", "double"])):
                    case "say":
                        holder[key] = _copied(draw(LIES))
                    case "lose":
                        del holder[key]
                    case "double" if isinstance(holder, list):
                        holder.append(_copied(holder[key]))
                    case _:
                        holder[draw(st.text(max_size=5))] = _copied(holder[key])
                break
            holder = holder[key]
    return result


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


@contextmanager
def bounded(megabytes: float, seconds: float = 5.0) -> Iterator[None]:
    """What happens inside takes at most so much more resident memory at its peak, native code's included, and time."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, started = _status("VmRSS"), time.monotonic()
    yield
    taken, took = _status("VmHWM") - before, time.monotonic() - started
    assert taken < megabytes, f"took {taken:.0f} MB"
    assert took < seconds, f"took {took:.1f} s"


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise LookupError(name)
