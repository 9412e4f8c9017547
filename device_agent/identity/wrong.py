"""A frame whose certificate belongs to another one: it says so, under the name the certificate has, and does no more.

The broker believes certificates, so nothing it could say would reach its own topics; where the console shows the
frame whose certificate was misplaced, the sentence appears. Nothing is installed; what the frame has goes on playing.
"""

from device_agent.ports import Outbox, wall_clock_ms
from device_agent.telemetry import health
from protocol import topics
from protocol.codec import decode, encode
from protocol.errors import Reason, Refused
from protocol.exchange import Command, Done, Publish, Subscribe
from protocol.messages import Ack, TelemetryBatch
from protocol.sequences import Perform

RESEND_S = 15.0


def mismatch(frame_id: str, certified: str) -> str:
    """The one sentence about it."""
    return f"Frame {frame_id} holds the certificate of {certified}, so it installs nothing: put its own identity back."


class WrongIdentityCore:
    """Publishes one HealthEvent of kind ``wrong_identity`` until it is committed; driven like a FrameCore."""

    def __init__(self, frame_id: str, certified: str, outbox: Outbox) -> None:
        self._certified = certified
        self._outbox = outbox
        self._resend_at: float | None = None
        if not outbox.peek(1):
            detail = mismatch(frame_id, certified)
            outbox.append(health(Reason.WRONG_IDENTITY.value, detail, at=wall_clock_ms(), release=None))

    @property
    def deadline(self) -> float | None:
        return self._resend_at

    def connected(self, now: float) -> list[Command]:
        return [Subscribe(topics.frame_topic(self._certified, "ack")), *self._send(now)]

    def disconnected(self) -> None:
        self._resend_at = None

    def received(self, topic: str, payload: bytes, now: float) -> list[Command]:
        del now
        if topic != topics.frame_topic(self._certified, "ack"):
            return []
        try:
            ack = decode(payload, Ack)
        except Refused:
            return []
        if ack.outbox_id == self._outbox.outbox_id:
            self._outbox.discard(ack.seq)
            if not self._outbox.peek(1):
                self._resend_at = None
        return []

    def performed(self, work: Perform, outcome: Done[object], now: float) -> list[Command]:
        del work, outcome, now
        return []

    def tick(self, now: float) -> list[Command]:
        return self._send(now) if self._resend_at is not None and now >= self._resend_at else []

    def fault(self, kind: str, detail: str, now: float) -> list[Command]:
        del kind, detail, now
        return []

    def _send(self, now: float) -> list[Command]:
        events = self._outbox.peek(1)
        if not events:
            return []
        self._resend_at = now + RESEND_S
        batch = TelemetryBatch(frame_id=self._certified, outbox_id=self._outbox.outbox_id, events=events)
        return [Publish(topics.frame_topic(self._certified, "events"), encode(batch))]
