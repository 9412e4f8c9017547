"""A frame on a wall: the agent's own trust code over what the server has the broker retain."""

from dataclasses import dataclass, field

from device_agent.ports import SignedTarget
from device_agent.storage.journal import MemoryDocuments
from device_agent.trust.director import verify_desired
from device_agent.trust.image import ImageTrust
from ota.models import DesiredState, RetainedObject
from protocol.messages import DesiredState as Message
from protocol.repository import DELEGATIONS, DIRECTOR_ROOT
from protocol.sequences import RetryPolicy, Want, refresh

ONCE = RetryPolicy(tries=1)


@dataclass
class Frame:
    """Born with these roots; ``read`` counts the documents of the last refresh."""

    root: bytes
    director_root: bytes
    read: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.documents = MemoryDocuments({"root": self.root, DIRECTOR_ROOT: self.director_root})

    def refresh(self, instead: dict[str, bytes] | None = None) -> ImageTrust:
        """A whole refresh; ``instead`` are documents that somebody put into the broker. Raises Refused."""
        trust = ImageTrust(self.documents)
        self.read.clear()
        sequence = refresh(trust, list(DELEGATIONS), ONCE)
        answer: bytes | None = None
        while True:
            try:
                asked = sequence.send(answer)
            except StopIteration:
                return trust
            if isinstance(asked, Want):
                self.read.append(asked.topic)
                answer = (instead or {}).get(asked.topic) or _retained(asked.topic)

    def target(self, path: str) -> SignedTarget:
        """What the frame believes about a file."""
        return self.refresh().target(path)

    def desired(self, frame_id: str) -> Message:
        """The frame's DesiredState, if it believes it. Raises Refused."""
        envelope = bytes(DesiredState.objects.get(pk=frame_id).envelope)
        return verify_desired(envelope, ImageTrust(self.documents).director_root, frame_id, 0)


def _retained(topic: str) -> bytes | None:
    row = RetainedObject.objects.filter(pk=topic).first()
    return None if row is None or not row.payload else bytes(row.payload)
