"""What has come from the broker and is not acknowledged yet.

paho's loop thread puts messages in, the worker takes them out. The inbox is bounded by bytes: when it is full, ``put``
waits, so the loop thread stops reading and TCP holds the broker back. The broker sends an un-acknowledged message again
after its ``ack_wait``, on the same connection too, so a packet id that is still open is not taken twice. After a
reconnect everything open is dropped: the broker delivers it again.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

MAX_BYTES = 32 * 1024 * 1024
SETTLED_S = 60.0
"""A connection that is younger may still bring what waited for it."""
OVERHEAD = 256
"""Bytes counted for a message besides its payload."""


@dataclass(frozen=True, slots=True)
class Message:
    """One PUBLISH of QoS 1. ``connection`` numbers the connection it came on, ``arrived`` is when.

    ``prompt`` says that the frame has sent it just now: it neither was delivered before nor can have waited for the
    bridge.
    """

    topic: str
    payload: bytes
    mid: int
    connection: int
    arrived: datetime = field(default_factory=lambda: datetime.now(UTC))
    prompt: bool = True


class Inbox:
    """Messages in order of arrival."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._condition = threading.Condition()
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._open: set[int] = set()
        self._connection = 0
        self._since = time.monotonic()
        self._closed = False

    def connected(self) -> int:
        """There is a new connection: drop what came on earlier ones. Returns its number."""
        with self._condition:
            self._connection += 1
            self._since = time.monotonic()
            self._messages.clear()
            self._open.clear()
            self._bytes = 0
            self._condition.notify_all()
            return self._connection

    def put(self, topic: str, payload: bytes, mid: int, *, again: bool = False) -> bool:
        """Take a message in, waiting while the inbox is full. False when it is here already or the inbox is closed.
        ``again`` when the broker says that it may have delivered it before."""
        arrived = datetime.now(UTC)
        with self._condition:
            while self._bytes >= self._max_bytes and not self._closed:
                self._condition.wait()
            if self._closed or mid in self._open:
                return False
            self._open.add(mid)
            prompt = not again and time.monotonic() - self._since >= SETTLED_S
            self._messages.append(Message(topic, payload, mid, self._connection, arrived, prompt))
            self._bytes += len(payload) + OVERHEAD
            self._condition.notify_all()
            return True

    def take(self, timeout: float) -> Message | None:
        """The oldest message, None when there is none within ``timeout`` seconds. It stays open until ``done``."""
        with self._condition:
            if not self._messages:
                self._condition.wait(timeout)
            if not self._messages:
                return None
            message = self._messages.popleft()
            self._bytes -= len(message.payload) + OVERHEAD
            self._condition.notify_all()
            return message

    def done(self, message: Message) -> bool:
        """The message has been dealt with. False when its connection is gone: then nobody waits for an answer."""
        with self._condition:
            if message.connection != self._connection:
                return False
            self._open.discard(message.mid)
            return True

    def is_current(self, message: Message) -> bool:
        """Whether the message came on the connection that stands."""
        with self._condition:
            return message.connection == self._connection

    def close(self) -> None:
        """Take nothing in any more; what is there can still be taken out."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
