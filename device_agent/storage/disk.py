"""Every operation on files that must survive a power cut, in one small place: the operating system's, and nothing else.

The rest of ``device_agent.storage`` asks ``disk()`` for them, so that a harness can put a disk in its place that keeps
apart what was written and what would be there after a cut (``tests/device_agent/powercut``).
"""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """What the operating system does, raising OSError as it does. Handles are small integers."""

    def open(self, path: Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        """``flags`` as for ``os.open``."""

    def read(self, handle: int, length: int, offset: int) -> bytes:
        """At most ``length`` bytes."""

    def write(self, handle: int, data: bytes, offset: int) -> int:
        """Returns how many bytes were taken: fewer on a disk that is full."""

    def truncate(self, handle: int, length: int) -> None:
        """Cut the file off."""

    def length(self, handle: int) -> int:
        """Bytes in the file."""

    def sync(self, handle: int) -> None:
        """Make the file's bytes durable, not its name."""

    def close(self, handle: int) -> None:
        """Let go of it."""

    def size(self, path: Path) -> int | None:
        """Bytes in a regular file; None where there is none."""

    def names(self, folder: Path) -> list[str]:
        """What a folder holds, in no order."""

    def rename(self, old: Path, new: Path) -> None:
        """Also over a file that is there."""

    def unlink(self, path: Path) -> None:
        """Raises FileNotFoundError too."""

    def mkdir(self, path: Path, mode: int = 0o700) -> None:
        """One folder. Raises FileExistsError too."""

    def sync_folder(self, folder: Path) -> None:
        """Make names that came or went in ``folder`` durable."""

    def free(self, folder: Path) -> int:
        """Bytes that are left."""


class RealDisk:
    """See ``Disk``."""

    def open(self, path: Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        return os.open(path, flags, mode)

    def read(self, handle: int, length: int, offset: int) -> bytes:
        return os.pread(handle, length, offset)

    def write(self, handle: int, data: bytes, offset: int) -> int:
        return os.pwrite(handle, data, offset)

    def truncate(self, handle: int, length: int) -> None:
        os.ftruncate(handle, length)

    def length(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def sync(self, handle: int) -> None:
        os.fsync(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def size(self, path: Path) -> int | None:
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def names(self, folder: Path) -> list[str]:
        return os.listdir(folder)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def mkdir(self, path: Path, mode: int = 0o700) -> None:
        path.mkdir(mode)

    def sync_folder(self, folder: Path) -> None:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def free(self, folder: Path) -> int:
        return shutil.disk_usage(folder).free


_disks: list[Disk] = [RealDisk()]


def disk() -> Disk:
    """The disk in use."""
    return _disks[-1]


@contextmanager
def using(other: Disk) -> Iterator[None]:
    """Put another disk in its place while the block runs, for the whole process."""
    _disks.append(other)
    try:
        yield
    finally:
        _disks.pop()
