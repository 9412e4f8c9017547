"""A frame's conversation with the backend, without I/O: hello until answered, events until committed.

A driver calls ``connected``, ``received``, ``tick`` and ``wake_up`` (new events in the outbox), runs the commands,
and calls ``tick`` again at ``deadline``. Times are seconds on any monotonic clock.

- Hello is repeated (with capped backoff) until an Ack says that it came in, and then every few hours; an Ack for
  events says nothing about it. An Ack that names a newer DesiredState than the frame holds means that the retained
  copy was missed: subscribe and say hello again.
- One batch of events is in flight at a time, until the Ack's committed watermark covers it; a broker's PUBACK is not
  durability and means nothing here. No Ack in time: the same batch again.
"""

import random
from collections.abc import Callable
from typing import Protocol

from msgspec import UNSET

from protocol import topics
from protocol.codec import decode, encode
from protocol.errors import Refused
from protocol.exchange import Command, Publish, Subscribe, Unsubscribe
from protocol.limits import MAX_EVENTS_PER_BATCH
from protocol.messages import Ack, AnyEvent, Hello, TelemetryBatch

HELLO_RETRY_S = (2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
HELLO_AGAIN_S = 6 * 3_600.0
"""A frame that stays connected greets so often, at a moment of its own: two with one identity are noticed then."""
ACK_TIMEOUT_S = 15.0
DESIRED_PATIENCE_S = 2.0


class Outbox(Protocol):
    """Events on disk, oldest first."""

    @property
    def outbox_id(self) -> str:
        """128 random bits in hex, new whenever numbering starts anew."""

    def peek(self, limit: int) -> list[AnyEvent]:
        """The oldest events, at most ``limit`` and few enough to fit into one message; they stay."""

    def discard(self, through: int) -> None:
        """Everything up to and including sequence number ``through`` is committed in the backend."""


class Session:
    """``hello`` builds the Hello of this moment; ``desired`` receives the raw envelope of a DesiredState. ``clock`` is
    the one that dates events, in ms since 1970 UTC; without it, batches do not say when they were sent."""

    def __init__(
        self,
        frame_id: str,
        outbox: Outbox,
        hello: Callable[[], Hello],
        desired: Callable[[bytes], None],
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._frame_id = frame_id
        self._outbox = outbox
        self._hello = hello
        self._desired = desired
        self._clock = clock
        self._desired_topic = topics.frame_topic(frame_id, "desired")
        self._ack_topic = topics.frame_topic(frame_id, "ack")
        self._online = False
        self._greeted = False
        self._settled = False
        self._hello_tries = 0
        self._hello_at: float | None = None
        self._in_flight: int | None = None
        self._resend_at: float | None = None

    @property
    def greeted(self) -> bool:
        """Whether the backend has answered a hello on this connection."""
        return self._greeted

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due."""
        times = [at for at in (self._hello_at, self._resend_at) if at is not None]
        return min(times) if times else None

    def connected(self, now: float) -> list[Command]:
        """A connection stands."""
        self._online = True
        self._greeted = self._settled = False
        self._hello_tries = 0
        self._in_flight = self._resend_at = None
        return [Subscribe(self._desired_topic), Subscribe(self._ack_topic), *self._say_hello(now)]

    def disconnected(self) -> None:
        """The connection is gone; nothing is due until the next one."""
        self._online = False
        self._hello_at = self._resend_at = self._in_flight = None

    def received(self, topic: str, payload: bytes, now: float) -> list[Command]:
        """A message on one of the frame's own topics; others are ignored. Garbage on ``ack`` is ignored too: the frame
        would only lose time by believing it."""
        if topic == self._desired_topic and payload:
            self._desired(payload)
            return []
        if topic != self._ack_topic:
            return []
        try:
            ack = decode(payload, Ack)
        except Refused:
            return []
        return self._acknowledged(ack, now)

    def tick(self, now: float) -> list[Command]:
        """Time has passed."""
        commands: list[Command] = []
        if self._hello_at is not None and now >= self._hello_at:
            self._settled = False
            commands += self._ask_again(now)
        if self._resend_at is not None and now >= self._resend_at:
            self._in_flight = self._resend_at = None
            commands += self.wake_up(now)
        return commands

    def wake_up(self, now: float) -> list[Command]:
        """Send the oldest events unless a batch is in flight already."""
        if not self._online or self._in_flight is not None:
            return []
        events = self._outbox.peek(MAX_EVENTS_PER_BATCH)
        if not events:
            return []
        batch = TelemetryBatch(
            frame_id=self._frame_id,
            outbox_id=self._outbox.outbox_id,
            sent_at=UNSET if self._clock is None else self._clock(),
            events=events,
        )
        self._in_flight = events[-1].seq
        self._resend_at = now + ACK_TIMEOUT_S
        return [Publish(topics.frame_topic(self._frame_id, "events"), encode(batch))]

    def greet(self) -> list[Command]:
        """Say hello once, outside of its turn: for who has been silent for long by a clock that runs ahead."""
        return [Publish(topics.frame_topic(self._frame_id, "hello"), encode(self._hello()))] if self._online else []

    def _acknowledged(self, ack: Ack, now: float) -> list[Command]:
        self._greeted = self._greeted or ack.hello is True
        if ack.desired_version > self._hello().desired_version:
            # The backend meant us to have a newer DesiredState; give the retained copy a moment, then ask again.
            if self._settled:
                self._settled = False
                self._hello_at = now + DESIRED_PATIENCE_S
        elif self._greeted and not self._settled:
            self._settled = True
            self._hello_at = now + HELLO_AGAIN_S * random.uniform(0.75, 1.25)  # noqa: S311  jitter needs no secrecy
            self._hello_tries = 0
        if ack.outbox_id == self._outbox.outbox_id:
            self._outbox.discard(ack.seq)
            if self._in_flight is not None and ack.seq >= self._in_flight:
                self._in_flight = self._resend_at = None
        return self.wake_up(now)

    def _say_hello(self, now: float) -> list[Command]:
        self._hello_at = now + HELLO_RETRY_S[min(self._hello_tries, len(HELLO_RETRY_S) - 1)]
        self._hello_tries += 1
        return self.greet()

    def _ask_again(self, now: float) -> list[Command]:
        # A subscription made in a broker's first second can miss its retained message for good: subscribe anew.
        again: list[Command] = []
        for topic in (self._desired_topic, self._ack_topic):
            again += [Unsubscribe(topic), Subscribe(topic)]
        return [*again, *self._say_hello(now)]
