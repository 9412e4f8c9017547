"""The next certificate: asked for in good time, judged, taken once; patience where nothing comes of it."""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.identity.key import public_bytes
from device_agent.identity.pairs import Pairs
from device_agent.identity.renewal import AGAIN_S, ANSWER_S, LOOK_EVERY_S, SETTLE_S, Renewal, due
from protocol.codec import decode, encode
from protocol.exchange import Command, Publish, Subscribe, Unsubscribe
from protocol.messages import Ack, CertificateAnswer, CertificateRequest, RefusedAnswer
from protocol.topics import frame_topic
from tests.device_agent.identity.issuer import DAY, NOW, Authority, pem, write_identity

FRAME = "frame-1"
ANSWER, ACK, REQUEST = (frame_topic(FRAME, kind) for kind in ("answer", "ack", "request"))


@dataclass
class Frame:
    """A frame whose certificate is good for a month, and a backend that answers by hand."""

    folder: Path
    ca: Authority = field(default_factory=Authority)
    time: dt.datetime | None = NOW
    now: float = 0.0
    notes: list[tuple[str, str]] = field(default_factory=list)
    adopted: int = 0
    sent: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        write_identity(self.folder, self.ca, FRAME)
        self.pairs = Pairs(self.folder)
        self.renewal = Renewal(FRAME, self.pairs, lambda: self.time, lambda *note: self.notes.append(note), self._adopt)
        self.do(self.renewal.connected(self.now))

    def _adopt(self) -> None:
        self.adopted += 1

    def do(self, commands: list[Command]) -> None:
        self.sent += commands

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.renewal.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.do(self.renewal.tick(self.now))
        self.now = end

    def hear(self, topic: str, payload: bytes) -> None:
        self.do(self.renewal.received(topic, payload, self.now))

    @property
    def requests(self) -> list[CertificateRequest]:
        return [
            decode(one.payload, CertificateRequest)
            for one in self.sent
            if isinstance(one, Publish) and one.topic == REQUEST
        ]

    def grant(self, request: CertificateRequest, **changes: str) -> bytes:
        key = x509.load_pem_x509_csr(request.csr.encode()).public_key()
        answer = CertificateAnswer(
            nonce=request.nonce, certificate=pem(self.ca.issue(FRAME, key)), ca=pem(self.ca.certificate)
        )
        return encode(msgspec.structs.replace(answer, **changes))

    def ask_renewal(self) -> None:
        self.hear(ACK, encode(Ack(outbox_id="0" * 32, seq=0, desired_version=0, renew=True)))


@pytest.fixture
def frame(tmp_path: Path) -> Frame:
    return Frame(tmp_path / "identity")


def test_nothing_is_asked_while_there_is_time(frame: Frame) -> None:
    frame.wait(3 * LOOK_EVERY_S)
    assert frame.sent == []
    assert not (frame.folder / "next-key.pem").exists()


def test_nothing_is_due_while_the_time_is_not_known(frame: Frame) -> None:
    frame.time = None
    frame.wait(3 * LOOK_EVERY_S)
    assert frame.sent == []


def test_renewal_begins_after_two_thirds_of_a_life_and_frames_spread_themselves() -> None:
    ca = Authority()
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    life = 300 * DAY
    times = {(due(ca.issue(FRAME, key, begin=NOW, end=NOW + life)) - NOW) / life for _ in range(40)}
    assert 2 / 3 <= min(times) < 0.69
    assert 0.73 < max(times) <= 0.75
    certificate = ca.issue(FRAME, key)
    assert due(certificate) == due(certificate)


def test_when_it_is_time_a_new_key_is_certified_and_taken_over(frame: Frame) -> None:
    born = frame.pairs.certificate()
    frame.time = NOW + 25 * DAY
    frame.wait(1.0)
    assert [type(one) for one in frame.sent] == [Subscribe, Publish]
    (request,) = frame.requests
    csr = x509.load_pem_x509_csr(request.csr.encode())
    assert csr.is_signature_valid
    assert csr.public_key() != born.public_key()
    frame.hear(ANSWER, frame.grant(request))
    assert frame.sent[-1] == Unsubscribe(ANSWER)
    assert frame.adopted == 1
    assert frame.pairs.certificate().public_key() == csr.public_key()
    assert frame.pairs.trying
    assert frame.notes == []
    frame.wait(LOOK_EVERY_S)
    frame.hear(ANSWER, frame.grant(request))
    assert frame.adopted == 1, "one answer to each question"


def test_an_ack_can_ask_for_it_once(frame: Frame) -> None:
    frame.ask_renewal()
    frame.ask_renewal()
    frame.wait(1.0)
    assert len(frame.requests) == 1
    frame.hear(ANSWER, frame.grant(frame.requests[0]))
    frame.ask_renewal()
    frame.wait(SETTLE_S - 10.0)
    assert len(frame.requests) == 1, "an Ack from before the renewal is late"
    frame.wait(20.0)
    frame.ask_renewal()
    frame.wait(1.0)
    assert len(frame.requests) == 2, "the fleet's authority may change again"


def test_answers_that_are_not_ours_are_ignored(frame: Frame) -> None:
    frame.ask_renewal()
    frame.wait(1.0)
    (request,) = frame.requests
    for payload in (b"", b"{", b"[" * 1000, frame.grant(request, nonce="f" * 32)):
        frame.hear(ANSWER, payload)
    assert frame.adopted == 0
    frame.hear(ANSWER, frame.grant(request))
    assert frame.adopted == 1


@pytest.mark.parametrize("forged", ["key", "name", "authority", "garbage", "expired"])
def test_an_answer_that_cannot_be_right_changes_nothing_and_is_told(frame: Frame, forged: str) -> None:
    frame.ask_renewal()
    frame.wait(1.0)
    (request,) = frame.requests
    key = x509.load_pem_x509_csr(request.csr.encode()).public_key()
    born = frame.pairs.certificate()
    frame.hear(
        ANSWER,
        frame.grant(
            request,
            **{
                "key": {"certificate": pem(frame.ca.issue(FRAME, born.public_key()))},
                "name": {"certificate": pem(frame.ca.issue("frame-2", key))},
                "authority": {"certificate": pem(Authority().issue(FRAME, key))},
                "garbage": {"certificate": "-----BEGIN CERTIFICATE-----"},
                "expired": {"certificate": pem(frame.ca.issue(FRAME, key, end=NOW - DAY))},
            }[forged],
        ),
    )
    assert frame.adopted == 0
    assert frame.pairs.certificate() == born
    ((kind, detail),) = frame.notes
    assert kind == "renewal_failed"
    assert detail.endswith(".")


def test_an_unknown_authority_beside_a_good_certificate_is_left_out_and_told(frame: Frame) -> None:
    frame.ask_renewal()
    frame.wait(1.0)
    foreign = Authority("somebody")
    both = pem(frame.ca.certificate) + pem(foreign.certificate)
    frame.hear(ANSWER, frame.grant(frame.requests[0], ca=both))
    assert frame.adopted == 1
    assert [kind for kind, _ in frame.notes] == ["unknown_authority"]
    assert [one.subject for one in frame.pairs.authorities()] == [frame.ca.name]


def test_silence_is_borne_more_and_more_patiently_and_told_once(frame: Frame) -> None:
    frame.ask_renewal()
    frame.wait(7 * 86_400.0)
    while isinstance(frame.sent[-1], Publish):
        frame.wait(1.0)
    asked = len(frame.requests)
    assert 4 + 7 * 86_400 / (1.25 * (AGAIN_S[-1] + ANSWER_S)) - 1 <= asked <= 5 + 7 * 86_400 / (0.75 * AGAIN_S[-1])
    assert len({request.nonce for request in frame.requests}) == asked, "a fresh nonce each time"
    assert len({public_bytes(x509.load_pem_x509_csr(one.csr.encode()).public_key()) for one in frame.requests}) == 1
    assert [kind for kind, _ in frame.notes] == ["renewal_failed"]
    frame.hear(ANSWER, frame.grant(frame.requests[-1]))
    assert frame.adopted == 0, "too late: it has given that question up"
    while len(frame.requests) == asked:
        frame.wait(ANSWER_S / 2)
    frame.hear(ANSWER, frame.grant(frame.requests[-1]))
    assert frame.adopted == 1


def test_a_refusal_is_told_and_not_answered_with_haste(frame: Frame) -> None:
    frame.ask_renewal()
    frame.wait(1.0)
    frame.hear(ANSWER, encode(RefusedAnswer(nonce=frame.requests[0].nonce, detail="Ten a day are enough.")))
    frame.ask_renewal()
    frame.wait(AGAIN_S[0] * 0.7)
    assert len(frame.requests) == 1
    assert frame.notes == [("renewal_failed", "The backend gives this frame no new certificate: Ten a day are enough.")]


def test_a_question_that_went_down_with_its_connection_is_asked_again(frame: Frame) -> None:
    frame.ask_renewal()
    frame.wait(1.0)
    frame.renewal.disconnected()
    assert frame.renewal.deadline is None
    frame.now += 1_000.0
    frame.do(frame.renewal.connected(frame.now))
    assert len(frame.requests) == 2
    frame.hear(ANSWER, frame.grant(frame.requests[1]))
    assert frame.adopted == 1


def test_a_full_disk_is_told_and_tried_again(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frame.pairs, "next_key", full)
    frame.ask_renewal()
    frame.wait(1.0)
    assert frame.requests == []
    assert frame.notes[0][0] == "renewal_failed"
    monkeypatch.undo()
    frame.wait(AGAIN_S[0] * 1.25)
    assert len(frame.requests) == 1


def test_authorities_that_rotted_are_told_and_the_certificate_is_asked_for_again(frame: Frame) -> None:
    whole = (frame.folder / "ca.pem").read_bytes()
    (frame.folder / "ca.pem").write_bytes(b"rot")
    frame.ask_renewal()
    frame.wait(1.0)
    frame.hear(ANSWER, frame.grant(frame.requests[-1]))
    assert [kind for kind, _ in frame.notes] == ["renewal_failed"]
    assert frame.adopted == 0
    (frame.folder / "ca.pem").write_bytes(whole)
    asked = len(frame.requests)
    while len(frame.requests) == asked:
        frame.wait(1.0)
    frame.hear(ANSWER, frame.grant(frame.requests[-1]))
    assert frame.adopted == 1


def test_a_certificate_that_cannot_be_read_when_its_age_is_looked_up_raises_nothing(frame: Frame) -> None:
    (frame.folder / "cert.pem").write_bytes(b"rot")
    frame.wait(LOOK_EVERY_S)
    assert [kind for kind, _ in frame.notes] == ["renewal_failed"]
    assert frame.renewal.deadline is not None
    assert frame.renewal.deadline > frame.now, "it is looked up again with patience"
