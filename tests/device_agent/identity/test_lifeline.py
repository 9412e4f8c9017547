"""Which connection a frame wants, and when it turns to the birth endpoint: decided without one."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from securesystemslib.signer import CryptoSigner

from device_agent.clock import SecurityClock
from device_agent.identity import lapsed
from device_agent.identity.certificates import accept
from device_agent.identity.lifeline import (
    DOUBT_AFTER_S,
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    REFUSED,
    UNASKED,
    UNDATED,
    Endpoint,
    Lifeline,
)
from device_agent.identity.pairs import Pairs
from device_agent.identity.server import BirthFailed
from device_agent.storage.journal import MemoryDocuments
from device_agent.tls import NO_CHECK_TIME
from device_agent.trust.image import ImageTrust, director_root
from protocol.codec import decode
from protocol.envelope import SIGNED_TIME_TYPE, Envelope
from protocol.exchange import Command, Done, Subscribe
from protocol.messages import SignedTime
from protocol.sequences import Perform
from protocol.topics import frame_topic
from tests.device_agent.identity.issuer import DAY, NOW, Authority, pem, write_identity
from tests.device_agent.repository import Repository, now_ms

FRAME = "frame-1"
CA = Authority()
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class QuietCore:
    """Says nothing by itself and remembers what it is told."""

    deadline = None

    def __init__(self) -> None:
        self.online = False
        self.notes: list[tuple[str, str]] = []

    def connected(self, now: float) -> list[Command]:
        self.online = True
        return [Subscribe("core")]

    def disconnected(self) -> None:
        self.online = False

    def received(self, topic: str, payload: bytes, now: float) -> list[Command]:
        return []

    def performed(self, work: Perform, outcome: Done[object], now: float) -> list[Command]:
        return []

    def tick(self, now: float) -> list[Command]:
        return []

    def fault(self, kind: str, detail: str, now: float) -> list[Command]:
        self.notes.append((kind, detail))
        return []


@dataclass
class Frame:
    """A frame whose certificate ends at ``end``, over a wall clock that says ``wall``."""

    folder: Path
    wall: dt.datetime = NOW
    end: dt.datetime = NOW + 30 * DAY
    endpoint: bool = True
    now: float = 0.0
    repository: Repository = field(default_factory=Repository)
    work: list[Perform] = field(default_factory=list)

    def __post_init__(self) -> None:
        write_identity(self.folder, CA, FRAME, self.end - 90 * DAY, self.end)
        self.documents = MemoryDocuments(self.repository.anchors())
        self.clock = SecurityClock(
            self.documents,
            director_root(self.documents).version,
            wall=lambda: self.wall.timestamp(),
            elapsed=lambda: self.now,
        )
        self.core = QuietCore()
        self.pairs = Pairs(self.folder)
        server = Endpoint("https://birth.example", self.pairs.context) if self.endpoint else None
        self.lifeline = Lifeline(
            self.core, FRAME, self.pairs, self.clock, lambda: ImageTrust(self.documents, self.clock.now), server
        )

    def do(self, commands: list[Command]) -> list[Command]:
        self.work += [one for one in commands if isinstance(one, Perform)]
        return commands

    def refuse(self, times: int, *, dates: bool = False) -> None:
        for _ in range(times):
            self.lifeline.failed(refused=True, dates=dates, now=self.now)
            self.do(self.lifeline.tick(self.now))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.lifeline.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.do(self.lifeline.tick(self.now))
        self.now = end

    def finish(self, outcome: Done[object]) -> None:
        self.do(self.lifeline.performed(self.work[-1], outcome, self.now))


Made = Callable[..., Frame]


@pytest.fixture
def make(tmp_path: Path) -> Made:
    return lambda **how: Frame(tmp_path / "identity", **how)


def test_where_the_time_is_known_the_core_converses(make: Made) -> None:
    frame = make()
    assert frame.do(frame.lifeline.connected(0.0)) == [Subscribe("core")]
    assert frame.core.online
    assert not frame.lifeline.context().verify_flags & NO_CHECK_TIME
    frame.lifeline.disconnected()
    assert not frame.core.online


def test_where_it_is_not_the_core_hears_of_no_connection(make: Made) -> None:
    frame = make(wall=EPOCH)
    commands = frame.do(frame.lifeline.connected(0.0))
    assert Subscribe(frame_topic(FRAME, "answer")) in commands
    assert not frame.core.online
    assert frame.lifeline.context().verify_flags & NO_CHECK_TIME
    generation = frame.lifeline.generation
    frame.clock.learn(now_ms())
    frame.do(frame.lifeline.tick(1.0))
    assert frame.lifeline.generation == generation + 1
    frame.lifeline.disconnected()
    frame.do(frame.lifeline.connected(2.0))
    assert frame.core.online


def test_a_clock_that_falls_behind_what_the_director_signed_is_asked_about(make: Made) -> None:
    frame = make()
    frame.do(frame.lifeline.connected(0.0))
    frame.clock.witness(int((NOW + 2 * DAY).timestamp() * 1000))
    frame.do(frame.lifeline.tick(1.0))
    assert (frame.lifeline.generation, frame.lifeline.asking) == (1, True)


def test_a_clock_at_which_the_broker_cannot_be_believed_is_asked_about(make: Made) -> None:
    frame = make()
    frame.refuse(UNDATED - 1, dates=True)
    frame.refuse(1)
    frame.refuse(UNDATED - 1, dates=True)
    assert not frame.lifeline.asking
    frame.refuse(1, dates=True)
    assert frame.lifeline.asking


def test_a_signed_time_at_which_the_broker_cannot_be_believed_is_asked_about_again_but_seldom(make: Made) -> None:
    """Whoever stole the director's key may have named any day; and the broker's certificate may really have ended."""
    frame = make(wall=EPOCH)
    seen = [frame.lifeline.asking]
    for _ in range(3):
        frame.clock.learn(int((NOW + 400 * DAY).timestamp() * 1000) + int(frame.now * 1000))
        frame.do(frame.lifeline.tick(frame.now))
        frame.refuse(10 * UNDATED, dates=True)
        seen.append(frame.lifeline.asking)
        frame.now += DOUBT_AFTER_S
        frame.refuse(1, dates=True)
        seen.append(frame.lifeline.asking)
    assert seen == [True, *[False, True] * 3]


def test_a_broker_that_is_not_there_says_nothing_about_certificates(make: Made) -> None:
    frame = make(end=NOW + DAY)
    for _ in range(100):
        frame.lifeline.failed(refused=False, dates=False, now=frame.now)
    frame.wait(600.0)
    assert frame.work == []


def test_a_refused_certificate_near_its_end_is_renewed_at_the_birth_endpoint(make: Made) -> None:
    young, old = make(), None
    young.refuse(3 * REFUSED)
    assert young.work == []
    old = make(end=NOW + DAY)
    old.refuse(REFUSED - 1)
    assert old.work == []
    old.refuse(1)
    assert len(old.work) == 1
    old.refuse(5)
    assert len(old.work) == 1, "one visit at a time"


def test_a_lapsed_one_is_renewed_at_once_and_with_more_and_more_patience(make: Made) -> None:
    frame = make(end=NOW - DAY)
    frame.do(frame.lifeline.tick(0.0))
    assert len(frame.work) == 1
    begun = frame.now
    for visit in range(1, 12):
        frame.finish(Done(error=BirthFailed("The server https://birth.example cannot be reached: look.")))
        frame.wait(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (visit - 1)))
        assert len(frame.work) == visit + 1
    assert frame.now - begun > 6 * 1_800.0
    assert frame.core.notes == [("renewal_failed", "The server https://birth.example cannot be reached: look.")]


def test_what_is_granted_is_taken_and_a_connection_made_anew(make: Made) -> None:
    frame = make(end=NOW - DAY)
    frame.do(frame.lifeline.tick(0.0))
    key = frame.pairs.next_key()
    public = x509.load_pem_x509_csr(key.request(FRAME).encode()).public_key()
    certificate = CA.issue(FRAME, public)
    frame.finish(Done(value=accept(FRAME, key.public, pem(certificate), pem(CA.certificate), [CA.certificate], NOW)))
    assert frame.lifeline.generation == 1
    assert frame.pairs.certificate() == certificate
    frame.wait(7_200.0)
    assert len(frame.work) == 1
    frame.do(frame.lifeline.connected(frame.now))
    assert not frame.pairs.trying


def test_a_new_pair_that_is_damaged_on_the_disk_gives_way_at_once(make: Made) -> None:
    frame = make()
    born = frame.pairs.certificate()
    key = frame.pairs.next_key()
    public = x509.load_pem_x509_csr(key.request(FRAME).encode()).public_key()
    granted = accept(FRAME, key.public, pem(CA.issue(FRAME, public)), pem(CA.certificate), [CA.certificate], NOW)
    frame.pairs.adopt(granted)
    frame.pairs.current.cert.write_bytes(b"")
    frame.lifeline.context()
    assert frame.pairs.certificate() == born
    frame.do(frame.lifeline.tick(0.0))
    assert [kind for kind, _ in frame.core.notes] == ["renewal_failed"]


def test_a_frame_that_knows_no_endpoint_says_so_once(make: Made) -> None:
    frame = make(end=NOW - DAY, endpoint=False)
    frame.refuse(20)
    frame.wait(3_600.0)
    assert frame.work == []
    assert [kind for kind, _ in frame.core.notes] == ["certificate_lapsed"]


def test_a_frame_without_time_that_nobody_lets_in_asks_the_endpoint(
    make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make(wall=EPOCH)
    frame.refuse(UNASKED - 1)
    assert frame.work == []
    frame.refuse(1)
    assert len(frame.work) == 1
    nonce = "0" * 32

    def told(signer: CryptoSigner | None = None) -> Done[object]:
        envelope = frame.repository.envelope(
            SignedTime(nonce=nonce, at=now_ms()),  # type: ignore[arg-type]
            signer,
            SIGNED_TIME_TYPE,
        )
        return Done(value=lapsed.Timed(nonce, decode(envelope, Envelope)))

    monkeypatch.setattr(lapsed, "ask_time", lambda *_: "time")
    monkeypatch.setattr(lapsed, "renew", lambda *_: "renewal")
    frame.finish(told(CryptoSigner.generate_ed25519()))
    assert frame.clock.now() is None
    frame.wait(FIRST_WAIT_S)
    frame.finish(Done(error=BirthFailed("The server is away: come back.")))
    frame.wait(2 * FIRST_WAIT_S)
    # Between the two: the director's key may have changed, and roots come from a broker that must let the frame in.
    assert [one.work() for one in frame.work] == ["time", "renewal", "time"]
    frame.finish(told())
    assert frame.clock.now() is not None


def test_a_wrong_identity_never_renews(tmp_path: Path) -> None:
    frame = Frame(tmp_path / "identity", end=NOW - DAY)
    lifeline = Lifeline(
        frame.core, FRAME, frame.pairs, frame.clock, lambda: ImageTrust(frame.documents, frame.clock.now),
        Endpoint("https://birth.example", frame.pairs.context), renews=False,
    )  # fmt: skip
    commands = lifeline.tick(0.0) + lifeline.connected(1.0) + lifeline.tick(2.0)
    assert [one for one in commands if isinstance(one, Perform)] == []


def test_a_disk_that_keeps_no_confirmation_takes_no_connection_away(
    make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make()
    key = frame.pairs.next_key()
    public = x509.load_pem_x509_csr(key.request(FRAME).encode()).public_key()
    granted = accept(FRAME, key.public, pem(CA.issue(FRAME, public)), pem(CA.certificate), [CA.certificate], NOW)
    frame.pairs.adopt(granted)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("device_agent.identity.pairs.replace_file", full)
        assert Subscribe("core") in frame.lifeline.connected(frame.now)
    assert frame.core.online
    assert frame.pairs.trying
    assert [kind for kind, _ in frame.core.notes] == ["disk_full"]
    frame.lifeline.disconnected()
    frame.do(frame.lifeline.connected(frame.now))
    assert not frame.pairs.trying
