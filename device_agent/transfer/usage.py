"""How many bytes of chunks the frame has fetched today, kept across restarts."""

import datetime as dt
import logging
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from device_agent.storage.files import read_file, replace_file
from device_agent.storage.records import read_record

log = logging.getLogger(__name__)

SAVE_EVERY = 1_000_000
"""A power cut forgets at most this many bytes."""


class Usage(Protocol):
    """Bytes by day of the frame's own time zone; only the newest day is kept."""

    def today(self, day: dt.date) -> int:
        """What was used on ``day``, which is today."""

    def add(self, day: dt.date, length: int) -> None:
        """So many more."""

    def save(self) -> None:
        """Make it durable. Raises OSError."""


class Used(msgspec.Struct, frozen=True):
    """``usage.json``."""

    day: dt.date
    bytes: Annotated[int, msgspec.Meta(ge=0)]

    def on(self, day: dt.date) -> "Used":
        """The same, seen on ``day``. A new day begins with nothing; one that was there before (the clock went back)
        does not, or setting the clock would be a way around the budget."""
        return self if day == self.day else Used(day, 0 if day > self.day else self.bytes)


class MemoryUsage:
    """Lives as long as the process."""

    def __init__(self, used: Used | None = None) -> None:
        self._used = used if used is not None else Used(dt.date.min, 0)

    def today(self, day: dt.date) -> int:
        self._used = self._used.on(day)
        return self._used.bytes

    def add(self, day: dt.date, length: int) -> None:
        self._used = Used(day, self.today(day) + length)

    def save(self) -> None:
        pass


class FileUsage(MemoryUsage):
    """In a file that is saved each MB; one that cannot be read counts as nothing used."""

    def __init__(self, path: Path) -> None:
        super().__init__(_read(path))
        self._path = path
        self._saved = self._used

    def add(self, day: dt.date, length: int) -> None:
        super().add(day, length)
        if self._used.day != self._saved.day or self._used.bytes - self._saved.bytes >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        if self._used != self._saved:
            replace_file(self._path, msgspec.json.encode(self._used))
            self._saved = self._used


def _read(path: Path) -> Used | None:
    try:
        return read_record(read_file(path, 4_096), Used)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s): the day's budget begins anew", path, error)
        return None
