"""A small blocking MQTT client over paho, for saying what a test expects in one line."""

import secrets
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.services import BrokerHandle

REFUSED = 0x80


class TestClient:
    """One connected client. Every wait is bounded."""

    __test__ = False

    def __init__(self, broker: BrokerHandle, identity: str, certificate_of: str | None = None) -> None:
        self.messages: Queue[MQTTMessage] = Queue()
        self.disconnected = threading.Event()
        self._connected: Queue[int] = Queue()
        self._granted: Queue[list[int]] = Queue()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=f"{identity}-{secrets.token_hex(8)}")
        certificate = broker.client(certificate_of or identity)
        self._client.tls_set(str(broker.ca), str(certificate.cert), str(certificate.key))
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(30, 60)  # no test wants it back by itself
        self._broker = broker

    def _on_connect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._connected.put(reason.value)

    def _on_subscribe(self, client: Client, data: Any, number: int, reasons: Any, properties: Any) -> None:
        self._granted.put([reason.value for reason in reasons])

    def _on_disconnect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self.disconnected.set()

    def _on_message(self, client: Client, data: Any, message: MQTTMessage) -> None:
        self.messages.put(message)

    def connect(self) -> int:
        """The CONNACK's code: 0 is welcome. Raises queue.Empty when the broker hangs up instead."""
        self._client.connect(self._broker.host, self._broker.port)
        self._client.loop_start()
        return self._connected.get(timeout=10)

    def subscribe(self, topic: str, qos: int = 0) -> int:
        """The SUBACK's code: 0x80 is refused."""
        self._client.subscribe(topic, qos)
        return self._granted.get(timeout=10)[0]

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish and wait for the PUBACK."""
        info = self._client.publish(topic, payload, qos, retain)
        info.wait_for_publish(10)
        assert info.is_published()

    def next_payload(self, timeout: float = 10.0) -> bytes | None:
        """The next message's payload, or None when none comes in time."""
        try:
            return bytes(self.messages.get(timeout=timeout).payload)
        except Empty:
            return None

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def connected(broker: BrokerHandle, identity: str) -> Iterator[TestClient]:
    """A client that the broker has let in."""
    client = TestClient(broker, identity)
    try:
        assert client.connect() == 0
        yield client
    finally:
        client.close()


def tls_context(broker: BrokerHandle, identity: str | None) -> ssl.SSLContext:
    """A TLS context that trusts the broker, with or without a client certificate."""
    context = ssl.create_default_context(cafile=str(broker.ca))
    if identity is not None:
        certificate = broker.client(identity)
        context.load_cert_chain(certificate.cert, certificate.key)
    return context
