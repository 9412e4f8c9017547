"""The days before a demonstration, as the simulator writes them down and the backend takes them in: lines of JSON.

The first line is a Head, every other one a Day. Days are counted from 1970-01-01, in UTC.
"""

from typing import Annotated

from msgspec import Meta, Struct

from protocol.messages import FrameId, Sha256

Count = Annotated[int, Meta(ge=0, le=1_000_000)]
DayNumber = Annotated[int, Meta(ge=0, le=1_000_000)]


class Head(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="simulated_history"):
    """What all lines are about: simulated people of ``frames`` frames, in ``days`` days under ``release``."""

    release: Sha256
    seed: int
    frames: Count
    first_day: DayNumber
    days: Annotated[int, Meta(ge=1, le=400)]


class Context(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A day's playbacks as far as they had one context, in words of ``protocol.messages.CONTEXTS``."""

    words: dict[str, str]
    playbacks: Count
    completed: Count
    complaints: Count


class Day(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One frame's day in sums."""

    frame: FrameId
    day: DayNumber
    playbacks: Count = 0
    completed: Count = 0
    complaints: Count = 0
    power_sum_w: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    power_samples: Count = 0
    contexts: tuple[Context, ...] = ()
