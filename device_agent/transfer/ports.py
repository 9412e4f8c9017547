"""What downloads need from the world beside MQTT and the store."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

from device_agent.transfer.ranges import HttpRanges
from device_agent.transfer.usage import MemoryUsage, Usage
from protocol.fetching import Ranges


def wall_clock() -> dt.datetime:
    """The time in the frame's own zone."""
    return dt.datetime.now().astimezone()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferPorts:
    """``usage`` survives restarts on a frame, ``local_time`` is that of its own zone, ``ranges`` opens the second
    source at an address."""

    usage: Usage = field(default_factory=MemoryUsage)
    local_time: Callable[[], dt.datetime] = wall_clock
    ranges: Callable[[str], Ranges] = HttpRanges
