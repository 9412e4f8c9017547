"""Where artifacts' bytes lie: Django's storage ``artifacts``, content-addressed. A folder by default, S3 by setting."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from django.core.files import File
from django.core.files.storage import Storage, storages

from protocol.limits import CHUNK_SIZE

PIECE = 16 * CHUNK_SIZE


def artifacts() -> Storage:
    """The storage of artifacts."""
    return storages["artifacts"]


def name_of(sha256: str) -> str:
    """The artifact's name in the storage; two digits of folder keep directories small."""
    return f"{sha256[:2]}/{sha256}"


def keep(sha256: str, source: IO[bytes]) -> None:
    """Store bytes that hash to ``sha256``; harmless when they are there already.

    What lies there under the name is believed only after reading it: a server that was killed while it stored the
    bytes has left a part of them.
    """
    name = name_of(sha256)
    if artifacts().exists(name):
        if is_whole(sha256):
            return
        artifacts().delete(name)
    saved = artifacts().save(name, File(source))
    _to_disk(saved)
    if saved != name:  # somebody stored the same bytes between the lines above
        artifacts().delete(saved)


def is_whole(sha256: str) -> bool:
    """Whether the stored bytes are there and hash to their name."""
    whole = hashlib.sha256()
    try:
        for piece in pieces(sha256):
            whole.update(piece)
    except OSError:
        return False
    return whole.hexdigest() == sha256


def discard(sha256: str) -> None:
    """Forget bytes that are damaged, so that they can be uploaded again."""
    artifacts().delete(name_of(sha256))


def _to_disk(name: str) -> None:
    """Have a folder's file and its name survive a power cut; other storages promise that themselves."""
    try:
        path = Path(artifacts().path(name))
    except NotImplementedError:
        return
    for each in (path, path.parent, path.parent.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def has(sha256: str, length: int) -> bool:
    """Whether a file of this length is there; ``is_whole`` reads it too."""
    name = name_of(sha256)
    return artifacts().exists(name) and artifacts().size(name) == length


def read_range(sha256: str, offset: int, length: int) -> bytes:
    """``length`` bytes from ``offset``. Raises OSError when the file is missing or shorter."""
    with artifacts().open(name_of(sha256), "rb") as file:
        file.seek(offset)
        data: bytes = file.read(length)
    if len(data) != length:
        raise OSError(f"Artifact {sha256} is shorter than it was: put the file back under the storage of artifacts.")
    return data


def pieces(sha256: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
    """The bytes, in pieces of at most 1 MiB. Raises OSError when the file is missing."""
    with artifacts().open(name_of(sha256), "rb") as file:
        file.seek(offset)
        while length is None or length > 0:
            piece: bytes = file.read(PIECE if length is None else min(PIECE, length))
            if not piece:
                return
            if length is not None:
                length -= len(piece)
            yield piece
