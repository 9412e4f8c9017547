"""One download over a real connection: the agent's driver, its exchange and its store, and nothing else."""

import threading
import time
from pathlib import Path

from device_agent.storage.store import FileStore
from device_agent.tls import TlsFiles
from device_agent.transport import MqttDriver
from protocol.chunks import ChunkIndex
from protocol.exchange import Command, Done, Exchange
from protocol.fetching import Way, fetch_object
from protocol.sequences import DEFAULT_RETRY, Perform, RetryPolicy


class Fetcher:
    """A core that fetches one object into ``folder``; ``took_s`` counts from the first connection."""

    def __init__(self, folder: Path, index: ChunkIndex, way: Way, retry: RetryPolicy = DEFAULT_RETRY) -> None:
        self.store = FileStore(folder)
        sink = self.store.sink(index.sha256, index.length)
        self.exchange = Exchange(fetch_object(index.root, index.sha256, index.length, sink, retry, way))
        self.ended = threading.Event()
        self.began: float | None = None
        self.took_s = 0.0
        self.connects = 0

    @property
    def deadline(self) -> float | None:
        return self.exchange.deadline

    def connected(self, now: float) -> list[Command]:
        self.connects += 1
        if self.began is None:
            self.began = time.monotonic()
            return self._told(self.exchange.start(now, connected=True))
        return self._told(self.exchange.connected(now))

    def disconnected(self) -> None:
        self.exchange.disconnected()

    def received(self, topic: str, payload: bytes, now: float) -> list[Command]:
        return self._told(self.exchange.received(topic, payload, now))

    def performed(self, work: Perform, outcome: Done[object], now: float) -> list[Command]:
        return self._told(self.exchange.performed(work, outcome, now))

    def tick(self, now: float) -> list[Command]:
        return self._told(self.exchange.tick(now))

    def fault(self, kind: str, detail: str, now: float) -> list[Command]:
        raise AssertionError(detail)

    def _told(self, commands: list[Command]) -> list[Command]:
        if self.exchange.done is not None and not self.ended.is_set():
            self.took_s = time.monotonic() - (self.began or 0.0)
            self.ended.set()
        return commands

    def run(self, url: str, tls: TlsFiles, seconds: float) -> Done[int]:
        """Until it ends, at most ``seconds``."""
        driver = MqttDriver(self, url, tls)
        thread = threading.Thread(target=driver.run)
        thread.start()
        try:
            assert self.ended.wait(seconds), "it did not end in time"
        finally:
            driver.stop()
            thread.join(10)
        assert self.exchange.done is not None
        return self.exchange.done
