"""The backend's side of the conversation with a frame that is cut."""

from dataclasses import dataclass, field

import msgspec

from protocol.codec import encode
from protocol.messages import Ack, TelemetryBatch
from tests.device_agent.repository import Published, Repository, desired

FRAME = "frame-1"


class Wrong(Exception):
    """Something that must never happen; ``kind`` is ``bricked`` or ``journal``, ``events`` or ``stuck``."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


@dataclass
class Backend:
    """Broker, repository and bridge: they go on while the frame is dark."""

    repository: Repository
    bad: set[str] = field(default_factory=set)
    """Releases whose golden clips say no."""
    crashed: set[str] = field(default_factory=set)
    """Releases that crashed on probation: whether the frame could still note it, the cut decides."""
    version: int = 0
    offered: Published | None = None
    envelope: bytes = b""
    events: dict[tuple[str, int], bytes] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)

    def offer(self, published: Published | None) -> None:
        self.version += 1
        self.offered = published
        self.envelope = self.repository.envelope(desired(FRAME, self.version, published))

    def copy(self) -> "Backend":
        """As it is now: what happens to the copy does not happen here."""
        return Backend(
            self.repository, self.bad, set(self.crashed), self.version, self.offered, self.envelope, dict(self.events),
            dict(self.committed),
        )  # fmt: skip

    def took(self, batch: TelemetryBatch) -> None:
        """Events are known by outbox and number: the same number must mean the same event for ever."""
        for event in batch.events:
            text, key = msgspec.json.encode(event), (batch.outbox_id, event.seq)
            if self.events.setdefault(key, text) != text:
                raise Wrong("events", f"the number {event.seq} was given to two events")
        self.committed[batch.outbox_id] = max(self.committed.get(batch.outbox_id, 0), batch.events[-1].seq)

    def ack(self, outbox_id: str, *, hello: bool) -> bytes:
        seq = self.committed.get(outbox_id, 0)
        flag = True if hello else msgspec.UNSET
        return encode(Ack(outbox_id=outbox_id, seq=seq, desired_version=self.version, hello=flag))
