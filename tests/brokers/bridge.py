"""The bridge as a part of the test's own process."""

import threading
from pathlib import Path

from django.db import connections

from bridge.link import Broker as BridgeBroker
from bridge.service import Bridge
from tests.brokers.world import World


class RunningBridge:
    """The bridge in a thread of this process."""

    def __init__(self, world: World, var: Path) -> None:
        broker = BridgeBroker(
            "127.0.0.1", world.broker.port, world.folder / "ca.pem", world.bridge.cert, world.bridge.key
        )
        self.client_id_file = var / "bridge-client-id"
        self._bridge = Bridge(broker, var)
        self._said: str | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._bridge._link.online.wait(10), "the bridge does not subscribe"

    @property
    def connections(self) -> int:
        return self._bridge._link.connections

    def _run(self) -> None:
        try:
            self._said = self._bridge.run()
        finally:
            connections.close_all()

    def stop(self) -> None:
        self._bridge.stop()
        assert self.ended() is None

    def ended(self, timeout: float = 20) -> str | None:
        """Why it ended by itself, None when it was asked to."""
        self._thread.join(timeout)
        assert not self._thread.is_alive()
        return self._said
