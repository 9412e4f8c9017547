"""Security time: what certificates, signed documents and DesiredStates are held against. Always real time.

A board without a battery wakes up in 1970, and anybody on the network can move a clock that NTP sets. So there is a
floor: the latest moment of which the frame knows, by a signature, that it lies behind it. A wall clock below the floor
counts for nothing; then no time is known until the director signs one for a fresh nonce, and from there on the time
that has passed since (suspend included) is added to it.

Only what the director signed raises the floor, never the wall clock: one wrong NTP answer would otherwise lock the
frame out for years. What an older root of the director vouched for counts no more under a newer one, so a stolen online
key does no lasting harm either.
"""

import datetime as dt
import logging
import time
from collections.abc import Callable
from typing import Literal

import msgspec

from device_agent.ports import DocumentStore
from device_agent.storage.records import read_record
from protocol.errors import Reason, Refused
from protocol.messages import Millis, Version

log = logging.getLogger(__name__)

BUILT = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
"""No agent is older than this, so no true clock is."""
SKEW = dt.timedelta(minutes=10)
"""How far a clock may lie below the floor and still be believed: clocks of two machines never agree."""
SAVE_EVERY = dt.timedelta(hours=1)
"""Flash wears out: the floor is written when it has risen by so much."""
DOCUMENT = "clock"
"""Name of the floor among the frame's documents."""

LATEST_MS = 253_402_300_799_999
"""The end of the year 9999, which dates of messages end with."""

Source = Literal["wall", "signed"]


class Floor(msgspec.Struct, frozen=True):
    """``at`` lies in the past, says the director under version ``root`` of its root."""

    at: Millis
    root: Version


def elapsed_s() -> float:
    """Seconds that only go forward and count suspend too, where the system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def utc(ms: float) -> dt.datetime:
    """Milliseconds since 1970 as a datetime."""
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)


class SecurityClock:
    """``wall`` gives seconds since 1970, ``elapsed`` seconds that only go forward; ``root`` is the version of the
    director's root that the frame trusts. Used by one thread, but ``now`` may be asked from any."""

    def __init__(
        self,
        documents: DocumentStore,
        root: int,
        *,
        wall: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = elapsed_s,
    ) -> None:
        self._documents = documents
        self._wall = wall
        self._elapsed = elapsed
        self._root = root
        self._signed: tuple[dt.datetime, float] | None = None
        self._doubted = False
        self._saved = self._load()
        self._floor = self._saved

    def now(self) -> dt.datetime | None:
        """The time in UTC, None when none is known that could be believed."""
        if self._signed is not None:
            at, since = self._signed
            passed = dt.timedelta(seconds=self._elapsed() - since)
            return at + min(passed, utc(LATEST_MS) - at)  # whoever stole the director's key may have named the last day
        return self._believable_wall()

    @property
    def source(self) -> Source | None:
        """Where ``now`` comes from: the frame's own clock, or a time that the director signed."""
        if self._signed is not None:
            return "signed"
        return None if self._believable_wall() is None else "wall"

    @property
    def floor(self) -> dt.datetime:
        """No earlier than this can it be."""
        return self._floor

    def date_ms(self) -> int:
        """What events are dated with, in ms since 1970: the time where it is known, else whatever the wall says."""
        now = self.now()
        seconds = self._wall() if now is None else now.timestamp()
        return min(max(int(seconds * 1000), 0), LATEST_MS)

    def learn(self, at: int) -> None:
        """The director says it is ``at`` (ms), for a nonce that was ours. Raises Refused when that cannot be."""
        told = utc(at)
        if told < self._floor - SKEW:
            raise Refused(
                Reason.OLD_VERSION,
                f"The signed time {told:%Y-%m-%d %H:%M} lies before {self._floor:%Y-%m-%d %H:%M}, which has been: "
                "check the backend's clock.",
            )
        self._signed = told, self._elapsed()
        self.witness(at)

    def witness(self, at: int) -> None:
        """The director signed something at ``at`` (ms): it can be no earlier."""
        seen = utc(at)
        if seen <= self._floor:
            return
        self._floor = seen
        if seen - self._saved >= SAVE_EVERY:
            try:
                self._documents.save(DOCUMENT, msgspec.json.encode(Floor(at=at, root=self._root)))
                self._saved = seen
            except OSError as error:
                log.error("The time cannot be saved: %s", error)

    def doubt(self) -> None:
        """The time seems to be wrong: the wall clock's, though it lies above the floor (a board that starts where it
        stopped), or one that was signed with a stolen key. None is known until the director has told it (anew)."""
        self._doubted = True
        self._signed = None

    def rooted(self, root: int) -> None:
        """The frame trusts version ``root`` of the director's root now."""
        if root > self._root:
            self._root = root
            self._floor = self._saved = BUILT

    def _believable_wall(self) -> dt.datetime | None:
        try:
            wall = dt.datetime.fromtimestamp(self._wall(), dt.UTC)
        except (ValueError, OverflowError, OSError):
            return None
        return wall if wall >= self._floor - SKEW and not self._doubted else None

    def _load(self) -> dt.datetime:
        document = self._documents.load(DOCUMENT)
        if document is None:
            return BUILT
        try:
            floor = read_record(document, Floor)
        except ValueError as error:
            log.error("The saved time is damaged and counts for nothing: %s", error)
            return BUILT
        return max(BUILT, utc(floor.at)) if floor.root >= self._root else BUILT
