"""The agent's one connection: paho-mqtt carries bytes, a FrameCore decides.

paho's thread only puts what happened into a bounded queue; one loop takes it from there, so the core is never entered
twice at once. A Perform runs in a thread of its own and comes back through the same queue. MQTT 3.1.1, TLS with the
frame's certificate, a random client id (someone else's valid certificate must not take over this session by its
name), a clean session, and reconnects with capped backoff whose steps are drawn at random.

How to connect is a ``Line``'s business. When its generation changes, the connection is closed and another one made, by
another client; what the old one still has to say counts for nothing.
"""

import logging
import queue
import random
import secrets
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from device_agent.identity.lifeline import Core
from device_agent.settings.address import parse_url
from device_agent.tls import TlsFiles, about_dates
from protocol.exchange import Command, Done, Publish, Subscribe, Unsubscribe
from protocol.sequences import Perform

__all__ = ["KEEPALIVE_S", "Core", "Line", "MqttDriver", "TlsFiles"]

log = logging.getLogger(__name__)

QUEUE = 256
"""Happenings that wait for the loop; paho's thread waits when it is full, and TCP slows the broker down."""
KEEPALIVE_S = 60
IDLE_S = 0.5
"""The loop looks up this often, so that stopping takes no longer."""
FAILING_S = 60.0
"""After so long without a turn that went well, the loop does not count as alive."""
ANEW_S = 30.0
"""After a context for a new connection could not be made (a file is damaged), it is tried again this much later."""


class Line(Protocol):
    """How to connect: ``device_agent.identity.lifeline``, or files that never change."""

    @property
    def generation(self) -> int:
        """Another one than before: connect anew."""

    def context(self) -> ssl.SSLContext:
        """For the next connection. Raises OSError, ConfigError."""

    def failed(self, *, refused: bool, dates: bool, now: float) -> None:
        """No connection came about. ``refused``: the broker is there, but one of the two does not believe the other;
        ``dates``: because its certificate is not valid at the frame's time."""


Happening = Callable[[float], list[Command]]


class MqttDriver:
    """Runs one core over one connection until ``stop``.

    ``each_turn`` is called in the same loop after everything that happened, and at least about once a second.
    """

    def __init__(self, core: Core, url: str, line: Line, each_turn: Callable[[], None] | None = None) -> None:
        self._core = core
        self._address = parse_url(url)
        self._line = line
        self._each_turn = each_turn if each_turn is not None else lambda: None
        self._happenings: queue.Queue[Happening] = queue.Queue(QUEUE)
        self._stopping = threading.Event()
        self._went_well_at = time.monotonic()
        self._subscribing: dict[int, str] = {}
        self._faults: set[str] = set()
        self._standing = False
        self._anew_at = 0.0
        self._generation = line.generation
        self._client = self._make_client(line.context())

    def run(self) -> None:
        """Until ``stop``; whoever calls it is the loop."""
        self._begin()
        try:
            while not self._stopping.is_set():
                if self._safely(self._turn):
                    self._went_well_at = time.monotonic()
                self._safely(self._connect_anew)
                self._safely(self._each_turn)
        finally:
            self._stopping.set()
            self._client.disconnect()
            self._client.loop_stop()
            while not self._happenings.empty():
                self._safely(self._hear_out)

    @property
    def well(self) -> bool:
        """Whether a turn of the loop went well lately: one in which all of them fail is not worth going on with."""
        return time.monotonic() - self._went_well_at < FAILING_S

    def stop(self) -> None:
        """End ``run``; from any thread, and from a signal handler."""
        self._stopping.set()

    def submit(self, happening: Happening) -> None:
        """Have the loop call this with the time and carry out what it returns; from any thread. Waits while the queue
        is full; dropped when the driver stops."""
        while not self._stopping.is_set():
            try:
                self._happenings.put(happening, timeout=IDLE_S)
            except queue.Full:
                continue
            return

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _safely(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except Exception:
            # A frame must go on playing and answering whatever went wrong here; the next happening is tried anew.
            log.exception("Unexpected error in the agent's loop")
            self._stopping.wait(IDLE_S)
            return False
        return True

    def _turn(self) -> None:
        now = time.monotonic()
        deadline = self._core.deadline
        wait = IDLE_S if deadline is None else min(max(deadline - now, 0.0), IDLE_S)
        try:
            happening = self._happenings.get(timeout=wait) if wait > 0 else self._happenings.get_nowait()
        except queue.Empty:
            happening = self._core.tick
        self._carry_out(happening(time.monotonic()))
        if deadline is not None and time.monotonic() >= deadline:
            self._carry_out(self._core.tick(time.monotonic()))

    def _begin(self) -> None:
        self._client.connect_async(*self._address, keepalive=KEEPALIVE_S)
        self._client.loop_start()

    def _connect_anew(self) -> None:
        """Where the line asks for it, by a client of its own: paho keeps its TLS for good."""
        if self._line.generation == self._generation or time.monotonic() < self._anew_at:
            return
        log.info("Connecting anew.")
        self._anew_at = time.monotonic() + ANEW_S
        generation = self._line.generation
        client = self._make_client(self._line.context())
        self._anew_at = 0.0
        old, self._client, self._generation = self._client, client, generation
        self._lost()
        old.disconnect()
        # It may be in the middle of a handshake, which the loop must not wait for.
        threading.Thread(target=old.loop_stop, name="hang-up", daemon=True).start()
        self._begin()

    def _hear_out(self) -> None:
        """Let the core note what had happened by the stop (a film's events, a crash), though nothing is sent now."""
        self._happenings.get_nowait()(time.monotonic())

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Subscribe(topic):
                    code, mid = self._client.subscribe(topic, qos=0)
                    if code == MQTTErrorCode.MQTT_ERR_SUCCESS and mid is not None:
                        self._subscribing[mid] = topic
                case Unsubscribe(topic):
                    self._client.unsubscribe(topic)
                case Publish(topic, payload):
                    self._client.publish(topic, payload, qos=1)
                case Perform():
                    threading.Thread(target=self._perform, args=(command,), name="work", daemon=True).start()

    def _perform(self, work: Perform) -> None:
        outcome: Done[object]
        try:
            outcome = Done(value=work.work())
        except Exception as error:
            outcome = Done(error=error)
        self.submit(lambda now: self._core.performed(work, outcome, now))

    def _subscribed(self, mid: int, refused: bool, now: float) -> list[Command]:
        topic = self._subscribing.pop(mid, None)
        if not refused or topic is None:
            return []
        family = "/".join(topic.split("/")[:2])
        log.error("The broker refuses the subscription to %s.", topic)
        if family in self._faults:
            return []
        self._faults.add(family)
        detail = f"The broker refuses this frame's subscription to {topic}: check its permissions and limits."
        return self._core.fault("subscription_refused", detail, now)

    def _stands(self, now: float) -> list[Command]:
        self._standing = True
        return self._core.connected(now)

    def _ended(self, now: float) -> list[Command]:
        if self._standing:
            return self._lost()
        # A broker that does not take a certificate lets the handshake end and hangs up (TLS 1.3), or refuses CONNECT.
        return self._failed(now, refused=True)

    def _failed(self, now: float, *, refused: bool, dates: bool = False) -> list[Command]:
        self._line.failed(refused=refused, dates=dates, now=now)
        return []

    def _lost(self) -> list[Command]:
        self._standing = False
        self._subscribing.clear()
        self._faults.clear()
        self._core.disconnected()
        return []

    # --- paho's thread ------------------------------------------------------------------------------------------------

    def _make_client(self, context: ssl.SSLContext) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=secrets.token_hex(16),
            clean_session=True,
            protocol=mqtt.MQTTv311,
        )
        client.tls_set_context(context)
        client.max_queued_messages_set(QUEUE)
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        _draw_backoff(client)
        return client

    def _happened(self, client: mqtt.Client, happening: Happening) -> None:
        """Have the loop hear of it, unless the client has been replaced by then, or is about to be: a connection made
        to ask for the time, its dates unchecked, may not go on as an ordinary one where the next is not made yet."""

        def heard(now: float) -> list[Command]:
            current = client is self._client and self._line.generation == self._generation
            return happening(now) if current else []

        while client is self._client and not self._stopping.is_set():
            try:
                self._happenings.put(heard, timeout=IDLE_S)
            except queue.Full:
                continue
            return

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            log.error("The broker refuses the connection: %s.", reason)
            return  # and closes it
        log.info("Connected to %s:%d.", *self._address)
        _draw_backoff(client)
        self._happened(client, self._stands)

    def _on_connect_fail(self, client: mqtt.Client, _data: Any) -> None:
        error = sys.exception()  # paho calls this from its except clause
        refused = isinstance(error, ssl.SSLError)
        why = error if refused else "not there"
        log.info("No connection to %s:%d yet: %s.", *self._address, why)
        dates = about_dates(error)
        self._happened(client, lambda now: self._failed(now, refused=refused, dates=dates))

    def _on_disconnect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        log.info("Disconnected: %s.", reason)
        self._happened(client, self._ended)

    def _on_subscribe(self, client: mqtt.Client, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        refused = any(reason.is_failure for reason in reasons)
        self._happened(client, lambda now: self._subscribed(mid, refused, now))

    def _on_message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        topic, payload = message.topic, bytes(message.payload)
        self._happened(client, lambda now: self._core.received(topic, payload, now))


def _no_delay(_client: mqtt.Client, _data: Any, connection: Any) -> None:
    # Without it each chunk waits for the delayed acknowledgement of the one before: 44 ms.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _draw_backoff(client: mqtt.Client) -> None:
    """paho doubles its wait from the smallest to the largest; drawing both keeps frames from coming back together."""
    smallest, largest = random.uniform(0.5, 2.0), random.uniform(30.0, 60.0)  # noqa: S311  jitter needs no secrecy
    client.reconnect_delay_set(smallest, largest)  # type: ignore[arg-type]  # seconds; fractions work
