"""Files that are whole or not there: atomic and durable replacement, and the small steps it is made of."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from device_agent.storage.disk import disk

_MAX_READ = 1024 * 1024
"""Of one system call."""


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in ``folder`` durable."""
    disk().sync_folder(folder)


def sync_file(path: Path) -> None:
    """Make the bytes of ``path`` durable, whoever wrote them."""
    with opened(path, os.O_RDWR) as handle:
        disk().sync(handle)


def make_folder(folder: Path) -> None:
    """``folder`` and those above it, durable even where an agent was killed right after it had made them."""
    try:
        with suppress(FileExistsError):
            disk().mkdir(folder)
    except FileNotFoundError:
        make_folder(folder.parent)
        disk().mkdir(folder)
    sync_folder(folder.parent)


def remove(path: Path) -> None:
    """Delete a file, if it is there."""
    with suppress(FileNotFoundError):
        disk().unlink(path)


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> Iterator[int]:
    """A handle on ``path`` while the block runs."""
    handle = disk().open(path, flags, mode)
    try:
        yield handle
    finally:
        disk().close(handle)


def read_file(path: Path, limit: int | None = None) -> bytes:
    """All of it, or its first ``limit`` bytes. Raises OSError."""
    with opened(path) as handle:
        wanted = disk().length(handle)
        wanted = wanted if limit is None else min(wanted, limit)
        data = bytearray()
        while len(data) < wanted and (piece := disk().read(handle, min(wanted - len(data), _MAX_READ), len(data))):
            data += piece
    return bytes(data)


def write_all(handle: int, data: bytes, offset: int) -> None:
    """Write all of ``data``. Raises OSError; a part may have been written then."""
    while data:
        written = disk().write(handle, data, offset)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        data, offset = data[written:], offset + written


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write ``content`` under ``path``, all or nothing, on disk when this returns. One writer per path.

    Raises OSError; then the old content stands, or the new one if only its durability is in doubt.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode) as handle:
            write_all(handle, content, 0)
            disk().sync(handle)
        disk().rename(temporary, path)
    except OSError:
        with suppress(OSError):  # what is left of it takes room, and a full disk may be what is wrong
            remove(temporary)
        raise
    sync_folder(path.parent)


def sweep(folder: Path) -> None:
    """Tidy up after whatever ended the last process: what cuts left of replacements goes (nothing ever reads it), and
    what was renamed right before a kill becomes durable before anybody relies on it. Raises OSError."""
    for name in disk().names(folder):
        if name.startswith(".") and name.endswith(".new"):
            with suppress(OSError):
                remove(folder / name)
    sync_folder(folder)
