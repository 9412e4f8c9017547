"""Where artifacts' bytes lie: Django's storage ``artifacts``, content-addressed. A folder by default, S3 by setting."""

from collections.abc import Iterator
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
    """Store bytes that hash to ``sha256``; harmless when they are there already."""
    name = name_of(sha256)
    if artifacts().exists(name):
        return
    saved = artifacts().save(name, File(source))
    if saved != name:  # somebody stored the same bytes between the two lines above
        artifacts().delete(saved)


def exists(sha256: str) -> bool:
    """Whether the bytes are there."""
    return artifacts().exists(name_of(sha256))


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
