"""How an object of any length travels as chunks of at most 64 KiB, each named by its hash.

An object of one chunk is that chunk. A longer one has an index: the SHA-256 digests (32 raw bytes each) of its chunks,
one after the other. The index is an object too, so a long one has an index of its own, until one fits into a chunk. The
hash of that topmost index, ``root``, stands in the signed target beside the object's own hash; from ``root`` and the
object's length everything else follows:

    root ── index (≤ 64 KiB) ── … ── index ── chunks of the object

692 MiB has 11,072 chunks, an index of 346 KiB in 6 chunks, and a root of 192 bytes.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from protocol.limits import CHUNK_SIZE, MAX_OBJECT

DIGEST = 32


def sha256_hex(data: bytes) -> str:
    """SHA-256 in lower-case hex: how everything in the repository is named."""
    return hashlib.sha256(data).hexdigest()


def chunk_count(length: int) -> int:
    """Chunks in an object of ``length`` bytes (at least 1)."""
    if not 1 <= length <= MAX_OBJECT:
        raise ValueError(f"an object has 1 to {MAX_OBJECT} bytes, not {length}")
    return -(-length // CHUNK_SIZE)


def chunk_length(length: int, number: int) -> int:
    """Bytes of chunk ``number`` (from 0) of an object of ``length`` bytes."""
    return min(CHUNK_SIZE, length - number * CHUNK_SIZE)


def index_lengths(length: int) -> list[int]:
    """Lengths of the indexes above an object, topmost first; empty for an object of one chunk."""
    levels: list[int] = []
    while (count := chunk_count(length)) > 1:
        length = count * DIGEST
        levels.insert(0, length)
    return levels


def split(data: bytes) -> list[bytes]:
    """``data`` in chunks."""
    return [data[at : at + CHUNK_SIZE] for at in range(0, len(data), CHUNK_SIZE)]


def digests(index: bytes) -> list[str]:
    """The hashes an index lists, in hex."""
    return [index[at : at + DIGEST].hex() for at in range(0, len(index), DIGEST)]


@dataclass(frozen=True, slots=True)
class ChunkIndex:
    """What the publisher needs of one object.

    ``sha256`` and ``length`` of the object; ``root`` the hash of the topmost index, or None where the object is one
    chunk; ``chunk_hashes`` of the object in order; ``index_chunks`` all chunks of all indexes by hash.
    """

    sha256: str
    length: int
    root: str | None
    chunk_hashes: tuple[str, ...]
    index_chunks: dict[str, bytes]


def read_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Re-cut any sequence of byte strings into chunks, holding no more than one chunk and one piece."""
    buffer = b""
    for piece in pieces:
        buffer += piece
        while len(buffer) >= CHUNK_SIZE:
            yield buffer[:CHUNK_SIZE]
            buffer = buffer[CHUNK_SIZE:]
    if buffer:
        yield buffer


def build_index(pieces: Iterable[bytes]) -> ChunkIndex:
    """Index an object given as a sequence of byte strings. Raises ValueError when it is empty or too long."""
    whole = hashlib.sha256()
    length = 0
    hashes: list[str] = []
    for chunk in read_chunks(pieces):
        whole.update(chunk)
        length += len(chunk)
        hashes.append(sha256_hex(chunk))
    chunk_count(length)  # refuses empty and too long
    index_chunks: dict[str, bytes] = {}
    root: str | None = None
    level = hashes
    while len(level) > 1:
        index = bytes.fromhex("".join(level))
        parts = split(index)
        level = [sha256_hex(part) for part in parts]
        index_chunks.update(zip(level, parts, strict=True))
        root = level[0]
    return ChunkIndex(whole.hexdigest(), length, root, tuple(hashes), index_chunks)
