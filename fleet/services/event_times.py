"""When events really happened, although a frame's clock may be days off.

A batch says what the frame's clock showed when it was sent; the bridge knows when it arrived. The difference is how far
the clock is behind, plus how long the message was on its way, so the smallest one that is at hand counts, and only from
``SKEW`` on: below, it is more likely delay. A message that may have waited at the broker for a bridge proves a clock
that is fast, and one that is slower than ``MAX_WAIT``; anything between is taken for waiting.

Whatever a clock says, nothing happened after it was received.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from protocol.messages import TelemetryBatch

SKEW = timedelta(minutes=5)
"""Clocks that are wrong by less are taken at their word."""
MAX_WAIT = timedelta(days=1)
"""No message waits longer for a bridge, and is then taken for one of a slow clock."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SKEW_MS = SKEW // _MILLISECOND
_MAX_WAIT_MS = MAX_WAIT // _MILLISECOND


def millis(at: datetime) -> int:
    """Milliseconds since 1970 UTC."""
    return (at - _EPOCH) // _MILLISECOND


@dataclass(slots=True)
class Clocks:
    """By how much the clocks of frames are wrong, as far as the batches at hand tell."""

    _behind: dict[str, tuple[bool, int]] = field(default_factory=dict)
    """Frame id -> (nothing but waiting messages is known of it, ms its clock is behind at most)."""

    def hear(self, frame_id: str, batch: TelemetryBatch, arrived: datetime, *, prompt: bool = True) -> None:
        """A batch came at ``arrived`` (real time). ``prompt``: the frame sent it just now, it cannot have waited."""
        if not isinstance(batch.sent_at, int):
            return
        heard = (not prompt, millis(arrived) - batch.sent_at)
        self._behind[frame_id] = min(heard, self._behind.get(frame_id, heard))

    def shift_ms(self, frame_id: str) -> int:
        """What to add to the times this frame tells; 0 for a clock that is right or unknown."""
        waited, behind = self._behind.get(frame_id, (False, 0))
        if waited and 0 < behind <= _MAX_WAIT_MS:
            return 0
        return behind if abs(behind) > _SKEW_MS else 0
