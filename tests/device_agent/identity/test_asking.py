"""A frame that does not know the time asks until the director tells it; nothing else will do."""

import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from device_agent.clock import BUILT, SecurityClock
from device_agent.identity.asking import AGAIN_S, ANSWER_S, WALK_EVERY_S, Asking
from device_agent.storage.journal import MemoryDocuments
from device_agent.trust.image import ImageTrust, director_root
from protocol import topics
from protocol.codec import decode, encode
from protocol.envelope import DESIRED_STATE_TYPE, SIGNED_TIME_TYPE, Envelope
from protocol.exchange import Command, Publish, Subscribe, Unsubscribe
from protocol.messages import RefusedAnswer, SignedTime, TimeAnswer, TimeRequest
from tests.device_agent.frame import QUICK
from tests.device_agent.repository import Repository

FRAME = "frame-1"
ANSWER, REQUEST = topics.frame_topic(FRAME, "answer"), topics.frame_topic(FRAME, "request")
TODAY = time.time_ns() // 1_000_000


@dataclass
class Drawer:
    """A frame without a battery that comes out of a drawer."""

    repository: Repository = field(default_factory=Repository)
    now: float = 0.0
    notes: list[tuple[str, str]] = field(default_factory=list)
    sent: list[Command] = field(default_factory=list)
    subscribed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.documents = MemoryDocuments(self.repository.anchors())
        version = director_root(self.documents).version
        self.clock = SecurityClock(self.documents, version, wall=lambda: 0.0, elapsed=lambda: self.now)
        self.asking = Asking(
            FRAME,
            self.clock,
            lambda: ImageTrust(self.documents, now=self.clock.now),
            lambda *note: self.notes.append(note),
            QUICK,
        )

    def connect(self) -> None:
        self.do(self.asking.connected(self.now))

    def do(self, commands: list[Command]) -> None:
        for command in commands:
            self.sent.append(command)
            match command:
                case Subscribe(topic):
                    self.subscribed.add(topic)
                    if topic in self.repository.retained:
                        self.do(self.asking.received(topic, self.repository.retained[topic], self.now))
                case Unsubscribe(topic):
                    self.subscribed.discard(topic)
                case _:
                    pass

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.asking.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.do(self.asking.tick(self.now))
        self.now = end

    @property
    def requests(self) -> list[TimeRequest]:
        return [
            decode(one.payload, TimeRequest) for one in self.sent if isinstance(one, Publish) and one.topic == REQUEST
        ]

    def envelope(self, nonce: str, at: int = TODAY, signer: CryptoSigner | None = None, **changes: Any) -> Envelope:
        signed = SignedTime(nonce=changes.pop("signed_nonce", nonce), at=at)
        return decode(
            self.repository.envelope(signed, signer, changes.pop("kind", SIGNED_TIME_TYPE)),  # type: ignore[arg-type]
            Envelope,
        )

    def tell(self, nonce: str, envelope: Envelope) -> None:
        self.do(self.asking.received(ANSWER, encode(TimeAnswer(nonce=nonce, time=envelope)), self.now))


@pytest.fixture
def drawer() -> Drawer:
    drawer = Drawer()
    drawer.connect()
    return drawer


def test_it_asks_for_nothing_else_and_learns_the_time(drawer: Drawer) -> None:
    assert drawer.sent[-2:] == [Subscribe(ANSWER), drawer.sent[-1]]
    (request,) = drawer.requests
    drawer.tell(request.nonce, drawer.envelope(request.nonce))
    known = drawer.clock.now()
    assert known is not None
    assert int(known.timestamp() * 1000) == TODAY
    assert drawer.asking.deadline is None
    assert {one.topic for one in drawer.sent if isinstance(one, Publish)} == {REQUEST}


def test_it_asks_again_with_a_fresh_nonce_and_patience(drawer: Drawer) -> None:
    drawer.wait(3_600.0)
    asked = len(drawer.requests)
    assert 3_600 / (ANSWER_S + AGAIN_S[-1]) <= asked <= 5 + 3_600 / (ANSWER_S + AGAIN_S[-1] / 2)
    assert len({request.nonce for request in drawer.requests}) == asked


def test_a_replayed_answer_is_no_answer(drawer: Drawer) -> None:
    old = drawer.requests[0].nonce
    recorded = drawer.envelope(old)
    drawer.wait(15.0)
    drawer.tell(old, recorded)
    assert drawer.clock.now() is None
    drawer.tell(drawer.requests[-1].nonce, recorded)
    assert drawer.clock.now() is None, "the signed nonce counts, not the one beside it"


@pytest.mark.parametrize("forged", ["stranger", "kind", "before"])
def test_a_forged_or_backward_time_is_refused_and_told(drawer: Drawer, forged: str) -> None:
    for _ in range(2):  # the first makes it look for newer roots, in vain
        nonce = drawer.requests[-1].nonce
        forgeries: dict[str, dict[str, Any]] = {
            "stranger": {"signer": CryptoSigner.generate_ed25519()},
            "kind": {"kind": DESIRED_STATE_TYPE},
            "before": {"at": int(BUILT.timestamp() * 1000) - 86_400_000},
        }
        drawer.tell(nonce, drawer.envelope(nonce, **forgeries[forged]))
        drawer.wait(20.0)
    assert drawer.clock.now() is None
    assert drawer.notes
    assert len(drawer.requests) >= 3, "it goes on asking"


def test_garbage_and_refusals_do_no_harm(drawer: Drawer) -> None:
    nonce = drawer.requests[0].nonce
    for payload in (b"", b"{", b"[" * 10_000, b"\xff"):
        drawer.do(drawer.asking.received(ANSWER, payload, drawer.now))
    refusal = RefusedAnswer(nonce=nonce, detail="The director's key is away.")
    drawer.do(drawer.asking.received(ANSWER, encode(refusal), drawer.now))
    assert drawer.notes == [("no_time", "The backend does not say what time it is: The director's key is away.")]
    drawer.tell(nonce, drawer.envelope(nonce))
    assert drawer.clock.now() is None, "it has been answered"
    drawer.wait(15.0)
    nonce = drawer.requests[-1].nonce
    drawer.tell(nonce, drawer.envelope(nonce))
    assert drawer.clock.now() is not None


def test_a_director_that_changed_its_key_meanwhile_is_followed_by_its_roots(drawer: Drawer) -> None:
    for _ in range(3):
        drawer.repository.director = CryptoSigner.generate_ed25519()
        drawer.repository.sign_director_root()
    drawer.repository.put_head()
    nonce = drawer.requests[-1].nonce
    drawer.tell(nonce, drawer.envelope(nonce))
    assert drawer.clock.now() is None
    assert director_root(drawer.documents).version == 4
    assert len(drawer.requests) == 2, "the roots are there: it asks anew"
    nonce = drawer.requests[-1].nonce
    drawer.tell(nonce, drawer.envelope(nonce))
    assert drawer.clock.now() is not None
    assert not {topic for topic in drawer.subscribed if topic.startswith("repo/")}


def test_roots_are_not_walked_at_every_forged_answer(drawer: Drawer) -> None:
    stranger = CryptoSigner.generate_ed25519()
    for _ in range(30):
        nonce = drawer.requests[-1].nonce
        drawer.tell(nonce, drawer.envelope(nonce, signer=stranger))
        drawer.wait(15.0)
    walks = drawer.sent.count(Subscribe(topics.REPO_HEAD))
    assert walks <= 1 + drawer.now / WALK_EVERY_S


def test_a_floor_that_a_stolen_key_pushed_up_falls_with_its_root(drawer: Drawer) -> None:
    drawer.clock.witness(TODAY + 3_000 * 86_400_000)
    drawer.repository.director = CryptoSigner.generate_ed25519()
    drawer.repository.sign_director_root()
    drawer.repository.put_head()
    for _ in range(2):
        nonce = drawer.requests[-1].nonce
        drawer.tell(nonce, drawer.envelope(nonce))
    known = drawer.clock.now()
    assert known is not None
    assert int(known.timestamp() * 1000) == TODAY


def test_a_connection_lost_in_mid_walk_goes_on_with_the_next(drawer: Drawer) -> None:
    held = drawer.repository.retained.pop(topics.REPO_HEAD)
    nonce = drawer.requests[-1].nonce
    drawer.tell(nonce, drawer.envelope(nonce, signer=CryptoSigner.generate_ed25519()))
    drawer.asking.disconnected()
    drawer.repository.retained[topics.REPO_HEAD] = held
    drawer.wait(60.0)
    drawer.connect()
    nonce = drawer.requests[-1].nonce
    drawer.tell(nonce, drawer.envelope(nonce))
    assert drawer.clock.now() is not None
