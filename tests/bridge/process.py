"""The bridge as a process of its own, and frames that talk to it through the real broker."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from protocol import messages
from protocol.codec import decode, encode
from protocol.topics import frame_topic
from tests.fleet.mqtt_client import Client
from tests.services import BrokerHandle

ROOT = Path(__file__).parents[2]


def eventually(condition: Callable[[], bool], timeout: float = 20.0) -> bool:
    """Whether this becomes true in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def named(database_url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(database_url)._replace(path=f"/{name}"))


class BridgeProcess:
    """``manage.py bridge``; its log is a file."""

    def __init__(self, broker: BrokerHandle, database_url: str, var: Path) -> None:
        cert, key = broker.client("bridge")
        self._env = os.environ | {
            "DATABASE_URL": database_url,
            "FRAMEFLEET_VAR": str(var),
            "FRAMEFLEET_SECRET_KEY": "test",
            "MQTT_URL": broker.url,
            "MQTT_CA": str(broker.ca),
            "MQTT_CERT": str(cert),
            "MQTT_KEY": str(key),
        }
        self._log_path = var / "bridge.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log_path.read_text() if self._log_path.exists() else ""

    def command(self, *arguments: str) -> None:
        """Another local command in the same environment."""
        subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=self._env, check=True, timeout=60)

    def start(self, *, wait: bool = True) -> None:
        """Run it, and wait until it is subscribed."""
        connected = self.log.count("Subscribed")
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "bridge"], cwd=ROOT, env=self._env, stdout=log, stderr=log
            )
        process = self._process
        if wait:
            eventually(lambda: self.log.count("Subscribed") > connected or process.poll() is not None)
            assert process.poll() is None, self.log

    def kill9(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(10)

    def exit_code(self, timeout: float = 15) -> int:
        """What it ends with by itself."""
        assert self._process is not None
        return self._process.wait(timeout)

    def end(self) -> None:
        """Whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.kill9()


class FrameClient(Client):
    """A frame as the bridge sees it."""

    def __init__(self, broker: BrokerHandle, frame_id: str) -> None:
        super().__init__(broker, frame_id)
        self.frame_id = frame_id
        assert self.subscribe(frame_topic(frame_id, "ack"))
        assert self.subscribe(frame_topic(frame_id, "desired"))

    def send(self, message: messages.Hello | messages.ReportedState | messages.TelemetryBatch) -> None:
        """On the topic that belongs to the message, confirmed by the broker."""
        match message:
            case messages.Hello():
                self.publish(frame_topic(self.frame_id, "hello"), encode(message))
            case messages.ReportedState():
                self.publish(frame_topic(self.frame_id, "reported"), encode(message))
            case messages.TelemetryBatch():
                self.publish(frame_topic(self.frame_id, "events"), encode(message))

    def acks(self) -> list[messages.Ack]:
        topic = frame_topic(self.frame_id, "ack")
        return [decode(payload, messages.Ack) for where, payload in list(self.heard) if where == topic]

    def desired(self) -> list[bytes]:
        topic = frame_topic(self.frame_id, "desired")
        return [payload for where, payload in list(self.heard) if where == topic]

    def is_acknowledged(self, seq: int, timeout: float = 20) -> bool:
        return self.waits_for(lambda: any(ack.seq >= seq for ack in self.acks()), timeout)
