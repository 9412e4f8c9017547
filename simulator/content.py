"""Artifacts of all frames of one process, each byte string kept once, finished or still on its way."""

from collections.abc import Iterable

from device_agent.storage.store import MemorySink, MemoryStore
from protocol.chunks import sha256_hex
from protocol.errors import Reason, Refused
from protocol.limits import CHUNK_SIZE


class SharedContent:
    """``artifacts`` by SHA-256. Which of them a frame has is its own store's knowledge."""

    def __init__(self) -> None:
        self.artifacts: dict[str, bytes] = {}
        self._chunks: dict[bytes, bytes] = {}

    def chunk(self, data: bytes) -> bytes:
        """The same bytes, as the one object that every download on its way holds."""
        return self._chunks.setdefault(data, data)

    def tidy(self, stores: Iterable["SharedStore"]) -> int:
        """Forget what no store has; returns how many artifacts went. Running downloads keep their own chunks."""
        self._chunks.clear()
        stores = list(stores)
        gone = [sha256 for sha256 in self.artifacts if not any(store.has(sha256) for store in stores)]
        for sha256 in gone:
            del self.artifacts[sha256]
        return len(gone)


class SharedStore(MemoryStore):
    """One frame's store over the shared content."""

    def __init__(self, content: SharedContent) -> None:
        super().__init__(content.artifacts)
        self.content = content

    def adopt(self, sha256: str) -> None:
        """Have an artifact that is in the shared content already."""
        self._own.add(sha256)

    def sink(self, sha256: str, length: int) -> MemorySink:
        return SharedSink(self, sha256, length)


class SharedSink(MemorySink):
    """One download: a list of shared chunks, joined and hashed by the first frame that finishes it."""

    def __init__(self, store: SharedStore, sha256: str, length: int) -> None:
        super().__init__(store, sha256, length)
        self._shared_store = store
        self._parts: list[bytes] = []

    def resume(self, chunk_hashes: list[str]) -> int:
        del chunk_hashes
        self._parts.clear()
        return 0

    def append(self, chunk: bytes) -> None:
        self._parts.append(self._shared_store.content.chunk(chunk))

    def finish(self) -> None:
        parts, self._parts = self._parts, []
        whole = self._shared_store.content.artifacts.get(self._sha256)
        if whole is not None and _same(parts, whole):
            self._shared_store.adopt(self._sha256)
            return
        data = b"".join(parts)
        if len(data) != self._length or sha256_hex(data) != self._sha256:
            raise Refused(
                Reason.BAD_ARTIFACT, f"The file {self._sha256[:12]} does not hash to its name: push it again."
            )
        self._shared_store.put(data)


def _same(parts: list[bytes], whole: bytes) -> bool:
    """Whether the chunks are the object whose hash was checked before."""
    if sum(map(len, parts)) != len(whole):
        return False
    view = memoryview(whole)
    return all(view[n * CHUNK_SIZE : (n + 1) * CHUNK_SIZE] == part for n, part in enumerate(parts))
