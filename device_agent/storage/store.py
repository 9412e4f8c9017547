"""The content store: artifacts by SHA-256, and downloads on their way to it.

``store/<sha256>`` holds only complete files whose bytes were hashed on the way in; ``partial/<sha256>`` what came so
far. A download is a sequential file; after a cut, whatever of it hashes as the chunk index says is kept.
"""

import errno
import hashlib
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from device_agent.storage.files import sync_folder
from protocol.chunks import chunk_length, sha256_hex
from protocol.errors import Reason, Refused

HEADROOM = 64 * 1024 * 1024
"""Bytes of disk that stay free for everything else on the frame."""
MAX_READ = 16 * 1024 * 1024
"""Bytes ``read`` takes into memory at most."""

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


class FileStore:
    """Artifacts as files below ``folder``. ``pinned`` and ``path`` may be used from any thread."""

    def __init__(self, folder: Path, headroom: int = HEADROOM) -> None:
        self._complete = folder / "store"
        self._partial = folder / "partial"
        self._headroom = headroom
        self._pins: Counter[str] = Counter()
        self._lock = threading.Lock()
        for path in (self._complete, self._partial):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, sha256: str) -> Path:
        """Where the file is, or would be."""
        return self._complete / _named(sha256)

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def read(self, sha256: str) -> bytes:
        try:
            with self.path(sha256).open("rb") as file:
                data = file.read(MAX_READ + 1)
        except OSError:
            raise _damaged(sha256) from None
        if len(data) > MAX_READ or sha256_hex(data) != sha256:
            raise _damaged(sha256)
        return data

    def sink(self, sha256: str, length: int) -> "FileSink":
        return FileSink(self._partial / _named(sha256), self.path(sha256), sha256, length, self.room)

    def check(self, sha256: str, length: int) -> None:
        path = self.path(sha256)
        try:
            with path.open("rb") as file:
                good = os.fstat(file.fileno()).st_size == length
                good = good and hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except OSError:
            good = False
        if not good:
            path.unlink(missing_ok=True)
            raise _damaged(sha256)

    def room(self, needed: int) -> None:
        if needed and shutil.disk_usage(self._complete).free < needed + self._headroom:
            raise _full(needed)

    def collect(self, keep: frozenset[str]) -> int:
        gone = 0
        with self._lock:
            for path in (*self._complete.iterdir(), *self._partial.iterdir()):
                if path.name not in keep and not self._pins[path.name]:
                    path.unlink(missing_ok=True)
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
        self._whole = hashlib.sha256()
        self._size = 0
        good = 0
        handle = os.open(self._partial, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+b") as file:
            for number, expected in enumerate(chunk_hashes):
                chunk = file.read(chunk_length(self._length, number))
                if not chunk or sha256_hex(chunk) != expected:
                    break
                self._whole.update(chunk)
                self._size += len(chunk)
                good += 1
            file.truncate(self._size)
        return good

    def append(self, chunk: bytes) -> None:
        self._room(len(chunk))
        try:
            with self._partial.open("r+b") as file:
                file.seek(self._size)
                file.write(chunk)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _full(len(chunk)) from error
            raise
        self._whole.update(chunk)
        self._size += len(chunk)

    def finish(self) -> None:
        if self._size != self._length or self._whole.hexdigest() != self._sha256:
            self._partial.unlink(missing_ok=True)
            raise _damaged(self._sha256)
        with self._partial.open("rb") as file:
            os.fsync(file.fileno())
        self._partial.replace(self._complete)
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
