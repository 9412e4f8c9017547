"""An outbox without a disk, for frames that live as long as a process."""

from collections import deque

import msgspec

from device_agent.storage.segments import BATCH_BYTES
from device_agent.telemetry import random_id
from protocol.messages import AnyEvent


class MemoryOutbox:
    """An outbox as long as the process lives; beyond ``max_events`` the oldest are dropped and counted in ``lost``."""

    def __init__(self, max_events: int = 2_000) -> None:
        self._id = random_id()
        self._events: deque[AnyEvent] = deque()
        self._max_events = max_events
        self._next = 1
        self.lost = 0

    @property
    def outbox_id(self) -> str:
        return self._id

    @property
    def waiting(self) -> int:
        """Events that are not committed."""
        return len(self._events)

    def append(self, event: AnyEvent) -> int:
        seq = self._next
        self._next += 1
        self._events.append(msgspec.structs.replace(event, seq=seq))
        if len(self._events) > self._max_events:
            self._events.popleft()
            self.lost += 1
        return seq

    def flush(self) -> None:
        pass

    def peek(self, limit: int) -> list[AnyEvent]:
        events: list[AnyEvent] = []
        size = 0
        for event in self._events:
            size += len(msgspec.json.encode(event)) + 1
            if len(events) >= limit or size > BATCH_BYTES:
                break
            events.append(event)
        return events

    def discard(self, through: int) -> None:
        while self._events and self._events[0].seq <= through:
            self._events.popleft()
