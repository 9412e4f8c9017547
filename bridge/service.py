"""The bridge: a link to the broker, a worker between it and the database, a publisher the other way."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bridge.inbox import Inbox
from bridge.link import Broker, Link, secret_client_id
from bridge.publisher import Publisher
from bridge.worker import Worker

log = logging.getLogger(__name__)

DRAIN_S = 3.0


class Bridge:
    """``run`` returns None after ``stop``, or one sentence when the bridge cannot go on."""

    def __init__(self, broker: Broker, var: Path) -> None:
        self._stop = threading.Event()
        self._asked_to_stop = False
        self._failure: str | None = None
        self._inbox = Inbox()
        self._link = Link(broker, secret_client_id(var / "bridge-client-id"), self._inbox, self._fail)
        self._worker = Worker(self._inbox, self._link, self._stop)
        self._publisher = Publisher(self._link, self._stop, self._fail)

    def stop(self) -> None:
        """Drain and end. A signal handler may call it: it takes no lock."""
        self._asked_to_stop = True

    def run(self) -> str | None:
        """Work until stopped; what has come by then is stored and acknowledged, for at most DRAIN_S."""
        threads = [
            threading.Thread(target=self._guarded(run), name=name, daemon=True)
            for name, run in (("worker", self._worker.run), ("publisher", self._publisher.run))
        ]
        for thread in threads:
            thread.start()
        self._link.start()
        while not self._asked_to_stop and not self._stop.wait(0.1):
            pass
        self._stop.set()
        deadline = time.monotonic() + DRAIN_S
        self._worker.drain_until(deadline)
        self._inbox.close()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()) + 0.5)
        self._link.stop()
        return self._failure

    def _guarded(self, body: Callable[[], None]) -> Callable[[], None]:
        """A thread that dies takes the bridge with it: the supervisor starts a whole one."""

        def run() -> None:
            try:
                body()
            except Exception:
                log.exception("A thread of the bridge failed")
                self._fail("The bridge failed: look into its log.")

        return run

    def _fail(self, sentence: str) -> None:
        self._failure = self._failure or sentence
        self._stop.set()
