"""Keeps the chunks of long indexes in the content store, under their own names, until the next commit tidies up."""

from device_agent.ports import Store
from protocol.errors import Refused


class StoredIndexes:
    """A ``protocol.fetching.IndexKeeper`` over the frame's store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, sha256: str) -> bytes | None:
        if not self._store.has(sha256):
            return None
        try:
            return self._store.read(sha256)
        except Refused:  # damaged: it is fetched again and replaced
            return None

    def save(self, sha256: str, chunk: bytes) -> None:
        sink = self._store.sink(sha256, len(chunk))
        if sink.resume([sha256]) == 0:
            sink.append(chunk)
        sink.finish()
