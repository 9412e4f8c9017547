"""A plain MQTT client with an identity, for tests against the real broker."""

import ssl
import threading
from collections.abc import Callable

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.services import BrokerHandle


class Client:
    """A client with the certificate of ``identity``."""

    def __init__(self, broker: BrokerHandle, identity: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._granted: dict[int, int] = {}
        self._changed = threading.Condition()
        self._online = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self._client.on_connect = lambda *_: self._online.set()
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        cert, key = broker.client(identity)
        self._client.tls_set(str(broker.ca), str(cert), str(key), cert_reqs=ssl.CERT_REQUIRED)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        assert self._online.wait(10)

    def _on_subscribe(self, client: object, userdata: object, mid: int, codes: list, properties: object) -> None:  # type: ignore[type-arg]
        with self._changed:
            self._granted[mid] = codes[0].value
            self._changed.notify_all()

    def _on_message(self, client: object, userdata: object, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            self.heard.append((message.topic, bytes(message.payload)))
            self._changed.notify_all()

    def subscribe(self, topic: str, qos: int = 0) -> bool:
        """Whether the broker grants it."""
        _, mid = self._client.subscribe(topic, qos)
        with self._changed:
            assert self._changed.wait_for(lambda: mid in self._granted, 10)
            return self._granted[mid or 0] < 0x80

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def hears(self, topic: str, payload: bytes) -> bool:
        """Whether this message comes within ten seconds, or has come."""
        return self.waits_for(lambda: (topic, payload) in self.heard)

    def waits_for(self, condition: Callable[[], bool], timeout: float = 10) -> bool:
        """Whether this becomes true of what was heard."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
