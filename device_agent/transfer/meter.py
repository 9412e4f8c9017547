"""Holds a download to its TransferPolicy, and tells how far it has come."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

from device_agent.transfer.policy import may_fetch
from device_agent.transfer.usage import Usage
from protocol.messages import TransferPolicy

TELL_ABOVE = 16 * 1024 * 1024
"""Bytes above which a download is long enough to report on the way: at its beginning and after each tenth."""
TENTHS = 10


@dataclass(slots=True)
class Progress:
    """How far the download has come. ``changed`` is called when people should hear of it."""

    changed: Callable[[], None]
    total: int = 0
    fetched: int = 0
    waiting_s: float = 0.0
    _told: int = field(default=0)

    def began(self, total: int, held: int) -> None:
        """``total`` bytes are needed, ``held`` of them are on the disk."""
        self.total, self.fetched, self.waiting_s, self._told = total, min(held, total), 0.0, 0
        self.took(0)

    def took(self, length: int) -> None:
        """So many bytes came in."""
        self.fetched = min(self.fetched + length, self.total)
        tenth = 1 + TENTHS * self.fetched // self.total if self.total > TELL_ABOVE else 0
        if tenth > self._told:
            self._told = tenth
            self.changed()

    def waits(self, seconds: float) -> None:
        """The download waits so long for its hours or for tomorrow's budget."""
        before, self.waiting_s = self.waiting_s, seconds
        if bool(before) != bool(seconds):
            self.changed()

    def ended(self) -> None:
        """Nothing is on its way."""
        self.total = self.fetched = 0
        self.waiting_s = 0.0

    @property
    def figures(self) -> dict[str, float]:
        """As they travel in a report; empty while nothing is fetched."""
        if not self.total:
            return {}
        found = {"fetched_bytes": float(self.fetched), "total_bytes": float(self.total)}
        return found | ({"waiting_s": round(self.waiting_s, 0)} if self.waiting_s else {})


class DownloadMeter:
    """A ``protocol.fetching.Meter`` over one policy."""

    def __init__(
        self, policy: TransferPolicy, usage: Usage, progress: Progress, local_time: Callable[[], dt.datetime]
    ) -> None:
        self._policy = policy
        self._usage = usage
        self._progress = progress
        self._local_time = local_time

    def wait(self, length: int) -> float:
        local = self._local_time()
        return may_fetch(self._policy, local, self._usage.today(local.date()), length)

    def waits(self, seconds: float) -> None:
        self._progress.waits(seconds)

    def took(self, length: int) -> None:
        self._usage.add(self._local_time().date(), length)
        self._progress.took(length)
