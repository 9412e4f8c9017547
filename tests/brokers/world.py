"""One broker of either kind, the fleet CA that it trusts, and clients with certificates of it."""

import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Protocol

from paho.mqtt.client import Client, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from fleet.broker_users import broker_users
from fleet.crl import revocation_list
from fleet.pki import BRIDGE, FRAME_LIFE, Authority, Certificate
from standalone.broker import Broker, find_binary
from tests.brokers.mosquitto import Mosquitto, find_mosquitto
from tests.services import require


@dataclass(frozen=True, slots=True)
class Credential:
    """A client certificate and its key, in PEM files."""

    identity: str
    serial_hex: str
    cert: Path
    key: Path
    of: Certificate | None = None


class RunningBroker(Protocol):
    """What both brokers can do."""

    @property
    def port(self) -> int: ...
    @property
    def url(self) -> str: ...
    @property
    def log(self) -> Path: ...
    @property
    def pid_file(self) -> Path: ...
    def start(self) -> None: ...
    def reload(self) -> None: ...
    def stop(self) -> None: ...
    def kill9(self) -> None: ...


@dataclass
class World:
    """A broker and who may connect: exactly ``good``, plus the bridge."""

    kind: str
    folder: Path
    authority: Authority
    broker: RunningBroker = field(init=False)
    bridge: Credential = field(init=False)
    good: list[Credential] = field(default_factory=list)
    revoked: list[Credential] = field(default_factory=list)
    clients: "list[Peer]" = field(default_factory=list)

    @classmethod
    def build(cls, kind: str, folder: Path) -> "World":
        """The broker, running, with nobody but the bridge."""
        if kind == "nats":
            require(find_binary)
        else:
            find_mosquitto()
        folder.mkdir(parents=True, exist_ok=True)
        world = cls(kind, folder, Authority.open(folder / "ca"))
        world.bridge = world.issue(BRIDGE)
        server = world.authority.server()
        (folder / "ca.pem").write_bytes(world.authority.bundle)
        (folder / "server.pem").write_bytes(server.certificate)
        (folder / "server-key.pem").write_bytes(server.key)
        world._write()
        if kind == "nats":
            nats = Broker(folder / "nats.conf")
            nats.configure(
                store_dir=folder / "store",
                ca=folder / "ca.pem",
                cert=folder / "server.pem",
                key=folder / "server-key.pem",
                users_file=folder / "users.conf",
            )
            world.broker = nats
        else:
            world.broker = Mosquitto(folder)
        world.broker.start()
        return world

    def issue(
        self, identity: str, *, life: timedelta = FRAME_LIFE, authority: Authority | None = None, good: bool = True
    ) -> Credential:
        """A new certificate of the fleet CA (or another); ``admit`` lets it in."""
        issued = (authority or self.authority).client(identity, life)
        serial = issued.of.serial_hex
        cert, key = self.folder / f"{serial}.pem", self.folder / f"{serial}-key.pem"
        cert.write_bytes(issued.certificate)
        key.write_bytes(issued.key)
        made = Credential(identity, serial, cert, key, issued.of)
        if good and identity != BRIDGE:
            self.good.append(made)
        return made

    def admit(self, *identities: str) -> list[Credential]:
        """New certificates for these, which the broker knows from now on."""
        made = [self.issue(identity) for identity in identities]
        self.apply()
        return made

    def revoke(self, one: Credential) -> None:
        """As the table of certificates would have it; the broker has read it when this returns."""
        self.good.remove(one)
        self.revoked.append(one)
        self.apply()

    def apply(self) -> None:
        """Write who may connect and let the broker read it."""
        self._write()
        before = self.broker.log.read_text().count("Reloaded server configuration")
        self.broker.reload()
        if self.kind == "nats":
            assert wait_for(lambda: self.broker.log.read_text().count("Reloaded server configuration") > before)
        else:
            time.sleep(0.5)  # it says nothing; its loop turns ten times a second

    def _write(self) -> None:
        users = broker_users([(one.identity, one.serial_hex) for one in self.good], [self.bridge.serial_hex])
        (self.folder / "users.conf").write_text(users)
        now = datetime.now(UTC)
        revoked = [(one.serial_hex, now) for one in self.revoked]
        (self.folder / "crl.pem").write_bytes(revocation_list(self.authority, revoked, now))

    def peer(self, credential: Credential, **options: Any) -> "Peer":
        """A client with this certificate, closed with the world; not connected yet."""
        peer = Peer(self, credential, **options)
        self.clients.append(peer)
        return peer

    def connected(self, credential: Credential, **options: Any) -> "Peer":
        """A client that the broker has let in."""
        peer = self.peer(credential, **options)
        assert peer.connect(), f"{credential.identity} is not let in"
        return peer

    def again(self, peer: "Peer", credential: Credential) -> "Peer":
        """The same client, or a new one where the broker has hung up on it."""
        return self.connected(credential) if peer.disconnected.is_set() else peer

    def hang_up(self) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()

    def close(self) -> None:
        self.hang_up()
        self.broker.stop()


class Peer:
    """A plain MQTT client; every wait is bounded."""

    def __init__(
        self,
        world: World,
        credential: Credential,
        *,
        client_id: str | None = None,
        clean: bool = True,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        self.messages: Queue[MQTTMessage] = Queue()
        self.disconnected = threading.Event()
        self._welcome: Queue[bool] = Queue()
        self._granted: Queue[int] = Queue()
        self._port = world.broker.port
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or secrets.token_hex(16),
            protocol=MQTTv311,
            clean_session=clean,
        )
        self._client.tls_set(str(world.folder / "ca.pem"), str(credential.cert), str(credential.key))
        if will is not None:
            self._client.will_set(*will, qos=1, retain=True)
        self._client.on_connect = lambda _c, _d, _f, code, _p: self._welcome.put(not code.is_failure)
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = lambda _c, _d, _m, codes, _p: self._granted.put(codes[0].value)
        self._client.on_message = lambda _c, _d, message: self.messages.put(message)

    def _on_disconnect(self, *_: object) -> None:
        self.disconnected.set()
        self._welcome.put(False)
        self._client.disconnect()  # no test wants it back by itself

    def connect(self) -> bool:
        """Whether the broker lets it in."""
        try:
            self._client.connect("127.0.0.1", self._port, 60)
        except OSError:
            return False
        self._client.loop_start()
        return self._welcome.get(timeout=10)

    def subscribe(self, topic: str, qos: int = 0) -> bool:
        """Whether the broker says yes; Mosquitto always does, and delivers nothing that may not be read."""
        result, _ = self._client.subscribe(topic, qos)
        if result != 0:
            return False
        try:
            return self._granted.get(timeout=5) < 0x80
        except Empty:
            return False

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> None:
        """Publish; a broker may confirm what it drops, or hang up."""
        info = self._client.publish(topic, payload, qos, retain)
        deadline = time.monotonic() + 10
        while not info.is_published() and not self.disconnected.is_set() and time.monotonic() < deadline:
            time.sleep(0.01)

    def flood(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 0 without waiting for anything."""
        self._client.publish(topic, payload, 0)

    def heard(self, quiet_s: float = 0.4) -> list[tuple[str, bytes]]:
        """Everything that has come, up to a pause of so long."""
        found: list[tuple[str, bytes]] = []
        while True:
            try:
                message = self.messages.get(timeout=quiet_s)
            except Empty:
                return found
            found.append((message.topic, bytes(message.payload)))

    def hears(self, payload: bytes, timeout: float = 10.0) -> bool:
        """Whether this payload comes in time."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                if bytes(self.messages.get(timeout=left).payload) == payload:
                    return True
            except Empty:
                break
        return False

    def drop(self) -> None:
        """Break the connection without saying goodbye, so that the will is published."""
        sock: Any = self._client.socket()
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._client.disconnect()
        if not self.disconnected.is_set():  # else its thread waits a second before it looks up, and then ends
            self._client.loop_stop()


def wait_for(condition: Callable[[], bool], timeout: float = 10.0) -> bool:
    """Whether this becomes true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
