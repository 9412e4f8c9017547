"""A service's log file, bounded: at its limit the file becomes ``<name>.log.1`` and a new one begins."""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

MAX_BYTES = 4 * 1024 * 1024  # a service keeps at most twice this


class BoundedLog:
    """Append-only; never holds more than ``max_bytes`` in each of two files."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._max_bytes = max_bytes
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self._size = path.stat().st_size

    def write(self, data: bytes) -> None:
        """Append; of a single piece larger than the limit only the end is kept. On a full disk the piece is dropped:
        a service must not stand still because its log cannot be written."""
        data = data[-self._max_bytes :]
        with suppress(OSError):
            if self._size + len(data) > self._max_bytes:
                self._file.close()
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
                self._file = self.path.open("ab", buffering=0)
                self._size = 0
            self._file.write(data)
            self._size += len(data)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
