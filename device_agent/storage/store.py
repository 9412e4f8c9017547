"""The content store: artifacts by SHA-256, and downloads on their way to it.

``store/<sha256>`` holds only complete files whose bytes were hashed on the way in; ``partial/<sha256>`` what came so
far. A download is a sequential file; after a cut, whatever of it hashes as the chunk index says is kept.
"""

import errno
import hashlib
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from device_agent.storage.disk import disk
from device_agent.storage.files import make_folder, opened, read_file, remove, sync_file, sync_folder, write_all
from protocol.chunks import chunk_length, sha256_hex
from protocol.errors import Reason, Refused

HEADROOM = 64 * 1024 * 1024
"""Bytes of disk that stay free for everything else on the frame."""
MAX_READ = 16 * 1024 * 1024
"""Bytes ``read`` takes into memory at most."""

PIECE = 256 * 1024
"""Bytes read at once while hashing."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


def _named(sha256: str) -> str:
    if _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"{sha256!r} is no SHA-256 in hex")
    return sha256


def _damaged(sha256: str) -> Refused:
    return Refused(Reason.BAD_ARTIFACT, f"The file {sha256[:12]} does not hash to its name: push it again.")


def _full(needed: int) -> Refused:
    return Refused(
        Reason.DISK_FULL, f"The frame's disk is full: {needed / 1e6:.1f} MB more are needed beside its reserve."
    )


def _hash_of(path: Path) -> str:
    with opened(path) as handle:
        whole, offset = hashlib.sha256(), 0
        while piece := disk().read(handle, PIECE, offset):
            whole.update(piece)
            offset += len(piece)
    return whole.hexdigest()


class FileStore:
    """Artifacts as files below ``folder``. ``pinned`` and ``path`` may be used from any thread."""

    def __init__(self, folder: Path, headroom: int = HEADROOM) -> None:
        self._complete = folder / "store"
        self._partial = folder / "partial"
        self._headroom = headroom
        self._pins: Counter[str] = Counter()
        self._lock = threading.Lock()
        for path in (self._complete, self._partial):
            make_folder(path)

    def path(self, sha256: str) -> Path:
        """Where the file is, or would be."""
        return self._complete / _named(sha256)

    def has(self, sha256: str) -> bool:
        return disk().size(self.path(sha256)) is not None

    def read(self, sha256: str) -> bytes:
        try:
            data = read_file(self.path(sha256), MAX_READ + 1)
        except OSError:
            raise _damaged(sha256) from None
        if len(data) > MAX_READ or sha256_hex(data) != sha256:
            raise _damaged(sha256)
        return data

    def sink(self, sha256: str, length: int) -> "FileSink":
        return FileSink(self._partial / _named(sha256), self.path(sha256), sha256, length, self.room)

    def held(self, sha256: str) -> int:
        return disk().size(self._partial / _named(sha256)) or 0

    def check(self, sha256: str, length: int) -> None:
        path = self.path(sha256)
        # Only what was read and is wrong goes: an error of the disk may pass, and what plays may need the file.
        if disk().size(path) != length or _hash_of(path) != sha256:
            remove(path)
            raise _damaged(sha256)
        # An agent may have been killed between renaming it and making that durable.
        sync_file(path)
        sync_folder(self._complete)

    def room(self, needed: int) -> None:
        if needed and disk().free(self._complete) < needed + self._headroom:
            raise _full(needed)

    def collect(self, keep: frozenset[str]) -> int:
        gone = 0
        with self._lock:
            for folder in (self._complete, self._partial):
                for name in disk().names(folder):
                    if name not in keep and not self._pins[name]:
                        remove(folder / name)
                        gone += 1
        return gone

    @contextmanager
    def pinned(self, *sha256s: str) -> Iterator[None]:
        """Keep these files while the block runs, whatever is collected meanwhile: a film that plays needs them."""
        with self._lock:
            self._pins.update(sha256s)
        try:
            yield
        finally:
            with self._lock:
                self._pins.subtract(sha256s)


class FileSink:
    """One download. Holds no open file between calls, so one that is given up needs no closing."""

    def __init__(self, partial: Path, complete: Path, sha256: str, length: int, room: Callable[[int], None]) -> None:
        self._partial = partial
        self._complete = complete
        self._sha256 = sha256
        self._length = length
        self._room = room
        self._whole = hashlib.sha256()
        self._size = 0

    def resume(self, chunk_hashes: list[str]) -> int:
        """Only reads: one that was given up may still be at it in its thread while the next one writes."""
        whole, size, good = hashlib.sha256(), 0, 0
        with opened(self._partial, os.O_RDONLY | os.O_CREAT) as handle:
            for number, expected in enumerate(chunk_hashes):
                chunk = disk().read(handle, chunk_length(self._length, number), size)
                if not chunk or sha256_hex(chunk) != expected:
                    break
                whole.update(chunk)
                size += len(chunk)
                good += 1
        self._whole, self._size = whole, size
        return good

    def append(self, chunk: bytes) -> None:
        self._room(len(chunk))
        try:
            with opened(self._partial, os.O_RDWR) as handle:
                write_all(handle, chunk, self._size)
                disk().truncate(handle, self._size + len(chunk))  # what does not hash right came after
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _full(len(chunk)) from error
            raise
        self._whole.update(chunk)
        self._size += len(chunk)

    def finish(self) -> None:
        if self._size != self._length or self._whole.hexdigest() != self._sha256:
            remove(self._partial)
            raise _damaged(self._sha256)
        try:
            with opened(self._partial, os.O_RDWR) as handle:
                disk().truncate(handle, self._size)
                disk().sync(handle)
        except OSError:
            # The system may take what it could not write for written from now on: only new bytes are safe.
            with suppress(OSError):
                remove(self._partial)
            raise
        disk().rename(self._partial, self._complete)
        sync_folder(self._complete.parent)


class MemoryStore:
    """Artifacts in memory. ``shared`` holds the immutable bytes of all frames of one process once; which of them this
    frame has is its own."""

    def __init__(self, shared: dict[str, bytes], own: frozenset[str] = frozenset()) -> None:
        self._shared = shared
        self._own = set(own)

    def has(self, sha256: str) -> bool:
        return sha256 in self._own

    def read(self, sha256: str) -> bytes:
        if sha256 not in self._own:
            raise _damaged(sha256)
        return self._shared[sha256]

    def put(self, data: bytes) -> str:
        """Keep ``data``, as a factory does; returns its SHA-256."""
        sha256 = sha256_hex(data)
        self._shared.setdefault(sha256, data)
        self._own.add(sha256)
        return sha256

    def sink(self, sha256: str, length: int) -> "MemorySink":
        return MemorySink(self, sha256, length)

    def held(self, sha256: str) -> int:
        del sha256
        return 0

    def check(self, sha256: str, length: int) -> None:
        # Hashed when it came; bytes do not change afterwards.
        if sha256 not in self._own or len(self._shared[sha256]) != length:
            raise _damaged(sha256)

    def room(self, needed: int) -> None:
        pass

    def collect(self, keep: frozenset[str]) -> int:
        gone = self._own - keep
        self._own &= keep
        return len(gone)


class MemorySink:
    """A download in memory; a cut loses it."""

    def __init__(self, store: MemoryStore, sha256: str, length: int) -> None:
        self._store = store
        self._sha256 = sha256
        self._length = length
        self._data = bytearray()

    def resume(self, chunk_hashes: list[str]) -> int:
        del chunk_hashes
        self._data.clear()
        return 0

    def append(self, chunk: bytes) -> None:
        self._data += chunk

    def finish(self) -> None:
        data = bytes(self._data)
        self._data.clear()
        if len(data) != self._length or sha256_hex(data) != self._sha256:
            raise _damaged(self._sha256)
        self._store.put(data)
