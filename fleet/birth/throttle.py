"""How often somebody may be wrong. A claim token has 130 random bits: this saves the database's time, not the token."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 600.0
EACH = 60
"""Refused requests of one address in a window."""
ALL = 3_000
"""Of all addresses together; beyond it, only addresses that were not wrong yet are heard."""
ADDRESSES = 10_000
"""Remembered; the one that was wrong the longest ago is forgotten first."""


@dataclass(slots=True)
class _Count:
    since: float
    wrong: int


class Throttle:
    """Counts refused requests by address, in fixed windows; for several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._by_address: OrderedDict[str, _Count] = OrderedDict()
        self._all = _Count(clock(), 0)

    def refused(self, address: str) -> None:
        """A request from ``address`` was refused."""
        now = self._clock()
        with self._lock:
            count = self._current(address, now) or _Count(now, 0)
            count.wrong += 1
            self._by_address[address] = count
            self._by_address.move_to_end(address)
            if len(self._by_address) > ADDRESSES:
                self._by_address.popitem(last=False)
            if now - self._all.since >= WINDOW_S:
                self._all = _Count(now, 0)
            self._all.wrong += 1

    def is_closed_to(self, address: str) -> bool:
        """Whether ``address`` has to wait."""
        now = self._clock()
        with self._lock:
            count = self._current(address, now)
            if count is None:
                return False
            flooded = now - self._all.since < WINDOW_S and self._all.wrong >= ALL
            return flooded or count.wrong >= EACH

    def _current(self, address: str, now: float) -> _Count | None:
        count = self._by_address.get(address)
        return count if count is not None and now - count.since < WINDOW_S else None
