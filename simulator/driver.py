"""Drives one FrameCore over asyncio (aiomqtt): MQTT 3.1.1, the frame's own certificate, QoS 0 subscriptions.

One task owns the core; connection, messages and finished work come to it through a bounded queue, so the core is never
entered twice at once. When that queue is full, the reader waits, then the client's own bounded queue fills and drops:
at QoS 0 the frame asks again.
"""

import asyncio
import logging
import random
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from device_agent.core import FrameCore
from device_agent.transport import KEEPALIVE_S, TlsFiles
from protocol.exchange import Command, Done, Publish, Subscribe, Unsubscribe
from protocol.sequences import Perform

log = logging.getLogger(__name__)

QUEUE = 64
INCOMING = 64
CONNECTS_IN_FLIGHT = 200
FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 30.0
ANSWER_S = 15.0
"""How long the broker may take to confirm a command before the connection counts as lost."""
NO_DELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
"""Without it every chunk waits 44 ms for the delayed acknowledgement of the one before."""

Happening = Callable[[float], list[Command]]


class SharedTls:
    """One client context for all frames. A frame's certificate is loaded right before its connection is wrapped, which
    is when OpenSSL copies it; a thousand contexts would hold the authority a thousand times."""

    def __init__(self, files: TlsFiles) -> None:
        self._context = ssl.create_default_context(cafile=str(files.ca))
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._lock = threading.Lock()

    def of(self, files: TlsFiles) -> ssl.SSLContext:
        """Something that wraps sockets as an SSLContext with this frame's certificate would."""
        return cast(ssl.SSLContext, _FrameTls(self._context, self._lock, files))


@dataclass(frozen=True, slots=True)
class _FrameTls:
    _context: ssl.SSLContext
    _lock: threading.Lock
    _files: TlsFiles
    check_hostname: bool = True

    def wrap_socket(self, connection: socket.socket, **options: object) -> ssl.SSLSocket:
        with self._lock:  # connects run in several threads
            self._context.load_cert_chain(self._files.cert, self._files.key)
            return self._context.wrap_socket(connection, **options)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Broker:
    """Where frames connect. ``gate`` bounds the connects in flight, ``executor`` does what a Perform asks for."""

    host: str
    port: int
    executor: Executor
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTS_IN_FLIGHT))


class FrameDriver:
    """Runs one core until ``run`` is cancelled."""

    def __init__(self, core: FrameCore, broker: Broker, tls: ssl.SSLContext) -> None:
        self.core = core
        self._broker = broker
        self._tls = tls
        self._happenings: asyncio.Queue[Happening] = asyncio.Queue(QUEUE)
        self._client: aiomqtt.Client | None = None
        self._broken = asyncio.Event()
        self._woken = False
        self._faults: set[str] = set()
        self._patience: asyncio.Timeout | None = None
        self._work: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """Whether a connection stands."""
        return self._client is not None

    def wake_up(self) -> None:
        """There are new events in the outbox; from the loop's thread."""
        if self._woken or self._client is None:  # a new connection sends what waits
            return
        with suppress(asyncio.QueueFull):
            self._happenings.put_nowait(self._wake)
            self._woken = True

    def greet(self) -> None:
        """The frame has been silent for long; from the loop's thread."""
        with suppress(asyncio.QueueFull):
            self._happenings.put_nowait(self.core.greet)

    def played(self, release: str, films: int) -> None:
        """Films of a release on probation were shown; from the loop's thread. While the queue is full they go
        uncounted: probation lasts longer, nothing is lost."""
        with suppress(asyncio.QueueFull):
            self._happenings.put_nowait(partial(self._played, release, films))

    async def run(self) -> None:
        """Until cancelled."""
        connection = asyncio.create_task(self._stay_connected())
        try:
            while True:
                await self._turn()
        finally:
            connection.cancel()
            for task in self._work:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await connection

    async def _turn(self) -> None:
        deadline = self.core.deadline
        happening: Happening = self.core.tick
        try:
            if deadline is None:
                happening = await self._happenings.get()
            elif (wait := deadline - time.monotonic()) > 0:
                async with asyncio.timeout(wait):
                    happening = await self._happenings.get()
        except TimeoutError:
            pass
        try:
            commands = happening(time.monotonic())
            if happening != self.core.tick and deadline is not None and time.monotonic() >= deadline:
                commands += self.core.tick(time.monotonic())
            await self._carry_out(commands)
        except Exception:
            log.exception("Unexpected error in the loop of %s", self.core.identity.frame_id)
            await asyncio.sleep(FIRST_BACKOFF_S)

    async def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Perform):
                self._begin(command)
                continue
            client = self._client
            if client is None:
                continue  # the next connection begins anew
            try:
                async with asyncio.timeout(ANSWER_S) as self._patience:
                    await self._send(client, command)
            except (aiomqtt.MqttError, TimeoutError) as error:
                if self._client is client:
                    log.info("%s lost its connection: %r", self.core.identity.frame_id, error)
                    self._client = None
                    self._broken.set()
            finally:
                self._patience = None

    async def _send(self, client: aiomqtt.Client, command: Command) -> None:
        match command:
            case Subscribe(topic):
                codes = await client.subscribe(topic, qos=0)
                if any(code.is_failure if isinstance(code, ReasonCode) else code >= 0x80 for code in codes):
                    await self._refused(topic)
            case Unsubscribe(topic):
                await client.unsubscribe(topic)
            case Publish(topic, payload):
                await client.publish(topic, payload, qos=1)

    async def _refused(self, topic: str) -> None:
        """SUBACK 0x80: the connection looks healthy and nothing will ever come. Told once per kind of topic."""
        family = "/".join(topic.split("/")[:2])
        log.error("The broker refuses the subscription of %s to %s.", self.core.identity.frame_id, topic)
        if family in self._faults:
            return
        self._faults.add(family)
        detail = f"The broker refuses this frame's subscription to {topic}: check its permissions and limits."
        await self._carry_out(self.core.fault("subscription_refused", detail, time.monotonic()))

    def _begin(self, work: Perform) -> None:
        task = asyncio.create_task(self._perform(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _perform(self, work: Perform) -> None:
        outcome: Done[object]
        try:
            outcome = Done(value=await asyncio.get_running_loop().run_in_executor(self._broker.executor, work.work))
        except Exception as error:
            outcome = Done(error=error)
        await self._happenings.put(lambda now: self.core.performed(work, outcome, now))

    def _played(self, release: str, films: int, now: float) -> list[Command]:
        return [command for _ in range(films) for command in self.core.played(now, release)]

    def _wake(self, now: float) -> list[Command]:
        self._woken = False
        return self.core.wake_up(now)

    def _lost(self, _now: float) -> list[Command]:
        self.core.disconnected()
        return []

    # --- the connection -----------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        backoff = FIRST_BACKOFF_S
        while True:
            stood = False
            try:
                stood = await self._connection()
            except Exception:
                log.exception("%s cannot connect", self.core.identity.frame_id)
            backoff = FIRST_BACKOFF_S if stood else min(backoff * 2, MAX_BACKOFF_S)
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))

    async def _connection(self) -> bool:
        """One connection from handshake to loss; whether it stood at all."""
        client = aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            identifier=secrets.token_hex(16),
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=True,
            keepalive=KEEPALIVE_S,
            timeout=ANSWER_S,
            max_queued_incoming_messages=INCOMING,
            tls_context=self._tls,
            socket_options=NO_DELAY,
        )
        stood = False
        try:
            async with self._broker.gate:
                await client.__aenter__()
            stood = True
            self._broken.clear()
            self._faults.clear()
            self._client = client
            await self._happenings.put(self.core.connected)
            await self._read(client)
        except aiomqtt.MqttError as error:
            log.info("%s has no connection: %s", self.core.identity.frame_id, error)
        finally:
            self._client = None
            if self._patience is not None:  # nobody will answer what the loop waits for
                self._patience.reschedule(asyncio.get_running_loop().time())
            with suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)
        if stood:
            await self._happenings.put(self._lost)
        return stood

    async def _read(self, client: aiomqtt.Client) -> None:
        """Messages until the connection is gone, or a command found it broken."""
        broken = asyncio.create_task(self._broken.wait())
        reading = asyncio.create_task(self._messages(client))
        try:
            await asyncio.wait((broken, reading), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            broken.cancel()
            reading.cancel()
            await asyncio.gather(broken, reading, return_exceptions=True)

    async def _messages(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            await self._happenings.put(partial(self._received, str(message.topic), message.payload))

    def _received(self, topic: str, payload: bytes, now: float) -> list[Command]:
        return self.core.received(topic, payload, now)
