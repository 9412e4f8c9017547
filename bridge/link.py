"""The bridge's one connection to the broker: MQTT 3.1.1 over TLS, a session that outlives the process.

paho's loop thread runs everything named ``_on_…`` here and nothing else; it only moves messages into the inbox and sets
flags.
"""

import contextlib
import logging
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from bridge.inbox import Inbox, Message
from fleet.pki import write_private
from protocol import topics

log = logging.getLogger(__name__)

KEEPALIVE_S = 30
WINDOW = 200
"""QoS 1 publishes in flight; paho stalls for good beyond 65,535, and more than this is not faster."""
REFUSED_BY_BROKER = 0x80


class BridgeError(Exception):
    """The bridge cannot go on; one sentence says what to do."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and who we are to it."""

    host: str
    port: int
    ca: Path
    cert: Path
    key: Path

    @classmethod
    def parse(cls, url: str, ca: str, cert: str, key: str) -> "Broker":
        """From ``mqtts://host:port`` and three files. Raises BridgeError."""
        if not url:
            raise BridgeError("Set the environment variable MQTT_URL, for example MQTT_URL=mqtts://127.0.0.1:8883.")
        for name, path in (("MQTT_CA", ca), ("MQTT_CERT", cert), ("MQTT_KEY", key)):
            if not Path(path).is_file():
                raise BridgeError(f"{name}={path} is not there: make the bridge's certificate with manage.py fleet_ca.")
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or 8883, Path(ca), Path(cert), Path(key))


def secret_client_id(path: Path) -> str:
    """The client id kept in ``path``, made of 128 random bits at first use.

    It is a secret: who connects with it, holding any valid certificate, takes the session over and could empty it.
    """
    with contextlib.suppress(FileNotFoundError):
        kept = path.read_text().strip()
        if len(kept) == 32:
            return kept
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = secrets.token_hex(16)
    write_private(path, made.encode())
    return made


class Link:
    """Connects, subscribes, and keeps doing so. ``fatal`` is called with a sentence when it makes no sense to go on."""

    def __init__(self, broker: Broker, client_id: str, inbox: Inbox, fatal: Callable[[str], None]) -> None:
        self._broker = broker
        self._inbox = inbox
        self._fatal = fatal
        self._pending_subscriptions: dict[int, str] = {}
        self._head = threading.Event()
        self._head_payload: bytes | None = None
        self.online = threading.Event()
        """Connected and subscribed."""
        self.connections = 0
        """How many connections there have been: a change means that the broker may be another one."""
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            protocol=mqtt.MQTTv311,
            manual_ack=True,
        )
        try:
            self._client.tls_set(str(broker.ca), str(broker.cert), str(broker.key))
        except OSError as error:
            raise BridgeError(f"The bridge's TLS files cannot be used: {error}.") from None
        self._certificate = broker.cert.stat().st_mtime_ns
        self._client.max_inflight_messages_set(WINDOW)
        self._client.reconnect_delay_set(min_delay=1, max_delay=10)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_socket_open = _no_delay

    def start(self) -> None:
        """Connect in the background and keep connected."""
        self._client.connect_async(self._broker.host, self._broker.port, KEEPALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        """Send what is waiting to be sent, disconnect, end the loop thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that this message has been dealt with, if it still waits for that."""
        if self._inbox.done(message):
            self._client.ack(message.mid, 1)

    def answer(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 0."""
        self._client.publish(topic, payload, qos=0)

    def publish(self, topic: str, payload: bytes) -> mqtt.MQTTMessageInfo:
        """Publish retained at QoS 1; without a connection paho keeps it and sends it with the next one."""
        info = self._client.publish(topic, payload, qos=1, retain=True)
        if info.rc == mqtt.MQTT_ERR_NO_CONN:
            info.rc = mqtt.MQTT_ERR_SUCCESS  # else the receipt raises for ever, even when the message has gone out
        return info

    def read_head(self, timeout: float) -> bytes | None:
        """The broker's retained ``repo/head``, None when it sends none in time."""
        self._head.clear()
        self._head_payload = None
        self._client.unsubscribe(topics.REPO_HEAD)
        self._client.subscribe(topics.REPO_HEAD, qos=0)
        self._head.wait(timeout)
        self._client.unsubscribe(topics.REPO_HEAD)
        return self._head_payload

    def _on_connect(
        self, client: mqtt.Client, userdata: Any, flags: mqtt.ConnectFlags, code: ReasonCode, properties: Any
    ) -> None:
        if code.is_failure:
            log.error("The broker refuses the bridge (%s): check that it knows the bridge's certificate", code)
            self._look_at_certificate()
            return
        self._inbox.connected()
        self.connections += 1
        log.info("Connected to the broker; session %s", "resumed" if flags.session_present else "new")
        self._pending_subscriptions.clear()
        for kind in topics.UP:
            wanted = topics.up_filter(kind)
            result, mid = client.subscribe(wanted, qos=1)
            if result == mqtt.MQTT_ERR_SUCCESS and mid is not None:
                self._pending_subscriptions[mid] = wanted

    def _on_connect_fail(self, client: mqtt.Client, userdata: Any) -> None:
        log.warning("The broker at %s:%d does not answer; trying again", self._broker.host, self._broker.port)
        self._look_at_certificate()

    def _look_at_certificate(self) -> None:
        """The broker does not want us: perhaps because it knows our next certificate only, which a new start reads."""
        with contextlib.suppress(OSError):
            if self._broker.cert.stat().st_mtime_ns != self._certificate:
                self._fatal("The bridge has a new certificate: it starts again with it.")

    def _on_disconnect(
        self, client: mqtt.Client, userdata: Any, flags: mqtt.DisconnectFlags, code: ReasonCode, properties: Any
    ) -> None:
        was_online = self.online.is_set()
        self.online.clear()
        log.info("Disconnected from the broker (%s)", code)
        if not was_online:
            self._look_at_certificate()

    def _on_subscribe(
        self, client: mqtt.Client, userdata: Any, mid: int, codes: list[ReasonCode], properties: Any
    ) -> None:
        wanted = self._pending_subscriptions.pop(mid, None)
        if wanted is None:
            return
        if any(code.value >= REFUSED_BY_BROKER for code in codes):
            self._fatal(f"The broker refuses the subscription {wanted}: check its users file and its consumer limit.")
        elif not self._pending_subscriptions:
            log.info("Subscribed: messages of frames come in")
            self.online.set()

    def _on_message(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        if message.topic == topics.REPO_HEAD:
            self._head_payload = bytes(message.payload)
            self._head.set()
        elif message.qos == 1:
            self._inbox.put(message.topic, bytes(message.payload), message.mid, again=message.dup)


def _no_delay(client: mqtt.Client, userdata: Any, opened: Any) -> None:
    """Small answers go out at once."""
    with contextlib.suppress(OSError):
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
