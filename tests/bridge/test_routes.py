"""What each message means, and that one that cannot be stored harms no other."""

import time
from datetime import timedelta
from typing import cast

import pytest
from cryptography import x509
from django.db import OperationalError, ProgrammingError, connection
from django.db.models import Q
from django.utils import timezone
from msgspec import UNSET

from bridge.inbox import Message
from bridge.renewals import EVERY_S, Renewals
from bridge.routes import Answer, Work, perform
from fleet.models import Frame, FrameCertificate, HealthEvent, Playback
from fleet.services.certificates import CUT_OFF, renew, revoke
from ota import keys
from protocol import messages
from protocol.codec import decode, encode
from protocol.envelope import SIGNED_TIME_TYPE, signed_bytes
from protocol.topics import frame_topic
from tests.fleet.births import common_name, csr, new_key
from tests.fleet.factories import OUTBOX, batch, hello, make_frame, playback

pytestmark = pytest.mark.django_db


def _work(*come: tuple[str, messages.Message]) -> Work:
    kinds = {
        messages.Hello: "hello",
        messages.ReportedState: "reported",
        messages.TelemetryBatch: "events",
        messages.TimeRequest: "request",
        messages.CertificateRequest: "request",
    }
    work = Work()
    for number, (frame_id, message) in enumerate(come):
        topic = frame_topic(frame_id, kinds[type(message)])  # type: ignore[arg-type]
        work.add(Message(topic, encode(message), number, 1))
    return work


def _acks(answers: list[Answer]) -> dict[str, messages.Ack]:
    return {answer.topic.split("/")[2]: decode(answer.payload, messages.Ack) for answer in answers}


def test_a_hello_and_events_of_one_outbox_are_answered_once() -> None:
    make_frame()
    answers = perform(_work(("frame-1", hello()), ("frame-1", batch(playback(4))), ("frame-1", batch(playback(9)))))
    assert len(answers) == 1
    assert _acks(answers) == {"frame-1": messages.Ack(outbox_id=OUTBOX, seq=9, desired_version=0, hello=True)}


@pytest.mark.parametrize(("prompt", "at_least_h"), [(True, 8), (False, 0)])
def test_events_that_may_have_waited_for_the_bridge_prove_no_slow_clock(prompt: bool, at_least_h: int) -> None:
    make_frame()
    sent = timezone.now() - timedelta(hours=8)
    millis = int(sent.timestamp() * 1000)
    work = Work()
    topic = frame_topic("frame-1", "events")
    work.add(Message(topic, encode(batch(playback(1, at=millis), sent_at=millis)), 1, 1, prompt=prompt))
    perform(work)
    moved = Playback.objects.get().at - sent
    assert timedelta(hours=at_least_h) <= moved + timedelta(seconds=1) <= timedelta(hours=at_least_h, minutes=1)


def test_events_alone_are_not_taken_for_a_hello() -> None:
    make_frame()
    answers = perform(_work(("frame-1", batch(playback(4)))))
    assert _acks(answers) == {"frame-1": messages.Ack(outbox_id=OUTBOX, seq=4, desired_version=0)}
    answers = perform(_work(("frame-1", hello(outbox_id="f" * 32)), ("frame-1", batch(playback(5)))))
    assert {ack.outbox_id: ack.hello for answer in answers for ack in _acks([answer]).values()} == {
        OUTBOX: UNSET,
        "f" * 32: True,
    }


def test_the_newest_of_several_hellos_counts() -> None:
    make_frame()
    answers = perform(_work(("frame-1", hello(desired_version=1)), ("frame-1", hello(desired_version=2))))
    assert len(answers) == 1
    assert Frame.objects.get().desired_version == 2


def test_nothing_is_done_for_nothing() -> None:
    assert perform(Work()) == []


@pytest.mark.parametrize(
    "topic", ["frames/1/frame-1/hello", "frames/x/y", "repo/head", frame_topic("frame-1", "ack"), "frames/0/../hello"]
)
def test_a_topic_that_is_no_frames_own_is_dropped(topic: str) -> None:
    work = Work()
    work.add(Message(topic, encode(hello()), 1, 1))
    assert work == Work()


def test_a_message_in_anothers_name_is_noted_on_the_frame_that_sent_it() -> None:
    make_frame("frame-1")
    make_frame("frame-2")
    assert perform(_work(("frame-1", hello("frame-2")))) == []
    assert HealthEvent.objects.get().frame_id == "frame-1"
    assert not Frame.objects.filter(last_seen__isnull=False).exists()


def test_one_message_that_cannot_be_stored_harms_no_other() -> None:
    make_frame("frame-1")
    make_frame("frame-2")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE fleet_playback ADD CONSTRAINT never CHECK (frame_id <> 'frame-1')")
    answers = perform(
        _work(
            ("frame-1", batch(playback(1), frame_id="frame-1")),
            ("frame-2", batch(playback(1), frame_id="frame-2")),
            ("frame-1", hello("frame-1")),
        )
    )
    assert {frame_id: ack.seq for frame_id, ack in _acks(answers).items()} == {"frame-1": 0, "frame-2": 1}
    assert Playback.objects.get().frame_id == "frame-2"


def test_what_the_database_is_to_blame_for_is_not_dropped() -> None:
    make_frame()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE fleet_playback RENAME TO elsewhere")
    with pytest.raises((OperationalError, ProgrammingError)):
        perform(_work(("frame-1", batch(playback(1)))))


NONCE = "a" * 32


def _said(answers: list[Answer]) -> dict[str, messages.AnyAnswer]:
    kind = cast(type[messages.AnyAnswer], messages.AnyAnswer)
    found = {}
    for answer in answers:
        frame_id = answer.topic.split("/")[2]
        assert answer.topic == frame_topic(frame_id, "answer")
        found[frame_id] = decode(answer.payload, kind)
    return found


def test_a_frame_that_asks_for_the_time_gets_it_signed() -> None:
    keys.make_missing()
    make_frame()
    said = _said(perform(_work(("frame-1", messages.TimeRequest(frame_id="frame-1", nonce=NONCE)))))["frame-1"]
    assert isinstance(said, messages.TimeAnswer)
    envelope = said.time
    key = keys.online_key("director")
    assert envelope.payload_type == SIGNED_TIME_TYPE
    key.private.public_key().verify(envelope.signatures[0].sig, signed_bytes(SIGNED_TIME_TYPE, envelope.payload))
    told = decode(envelope.payload, messages.SignedTime)
    assert told.nonce == NONCE
    assert abs(told.at / 1000 - time.time()) < 5


def _make_certified(*names: str) -> None:
    for name in names:
        make_frame(name)
        renew(name, csr(new_key()))


def test_a_frame_gets_its_next_certificate_for_its_own_key_and_topic() -> None:
    _make_certified("frame-1", "frame-2")
    key = new_key()
    asked = messages.CertificateRequest(frame_id="frame-1", nonce=NONCE, csr=csr(key))
    said = _said(perform(_work(("frame-1", asked), ("frame-2", asked))))
    assert set(said) == {"frame-1"}
    answer = said["frame-1"]
    assert isinstance(answer, messages.CertificateAnswer)
    certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    assert (common_name(certificate), certificate.public_key()) == ("frame-1", key.public_key())
    assert HealthEvent.objects.get().frame_id == "frame-2"


def test_a_request_that_is_not_granted_is_answered_too() -> None:
    _make_certified("frame-1", "frame-2")
    key = new_key()
    said = _said(
        perform(
            _work(
                ("frame-1", messages.CertificateRequest(frame_id="frame-1", nonce=NONCE, csr=csr(key))),
                ("frame-2", messages.CertificateRequest(frame_id="frame-2", nonce=NONCE, csr=csr(key))),
                ("nobody", messages.CertificateRequest(frame_id="nobody", nonce=NONCE, csr=csr(new_key()))),
            )
        )
    )
    assert isinstance(said["frame-1"], messages.CertificateAnswer)
    for name in ("frame-2", "nobody"):
        assert isinstance(said[name], messages.RefusedAnswer)
    assert FrameCertificate.objects.filter(frame="frame-1").count() == 2
    assert FrameCertificate.objects.count() == 3


def test_a_thief_who_is_not_cut_off_yet_gets_no_next_certificate() -> None:
    _make_certified("frame-1", "frame-2")
    spare = renew("frame-2", csr(new_key())).serial_hex
    revoke("frame-1", "ops", "stolen")
    stolen = FrameCertificate.objects.get(~Q(serial_hex=spare), frame="frame-2").serial_hex
    revoke("frame-2", "ops", "one of its keys was stolen", serial_hex=stolen)
    asked = [
        (name, messages.CertificateRequest(frame_id=name, nonce=NONCE, csr=csr(new_key())))
        for name in ("frame-1", "frame-2")
    ]
    said = _said(perform(_work(*asked)))
    assert all(isinstance(answer, messages.RefusedAnswer) for answer in said.values())
    assert FrameCertificate.objects.count() == 3
    # Who is connected later than that holds the certificate that is left.
    FrameCertificate.objects.filter(serial_hex=stolen).update(revoked_at=timezone.now() - CUT_OFF)
    said = _said(perform(_work(*asked)))
    assert isinstance(said["frame-1"], messages.RefusedAnswer)
    assert isinstance(said["frame-2"], messages.CertificateAnswer)


def test_a_malformed_request_is_dropped() -> None:
    work = Work()
    for payload in (b"", b"{}", b'{"type":"other"}', b"[" * 5_000, b"x" * 70_000):
        work.add(Message(frame_topic("frame-1", "request"), payload, 1, 1))
    assert work == Work()


def test_an_ack_tells_a_frame_to_renew_its_certificate() -> None:
    for name, age in (("frame-1", 710), ("frame-2", 10)):
        make_frame(name)
        renew(name, csr(new_key()), now=timezone.now() - timedelta(days=age))
    acks = _acks(perform(_work(("frame-1", hello("frame-1")), ("frame-2", hello("frame-2")))))
    assert {name: ack.renew for name, ack in acks.items()} == {"frame-1": True, "frame-2": UNSET}


def test_a_frame_that_stays_connected_is_looked_up_now_and_then() -> None:
    make_frame()
    now = [0.0]
    told = Renewals(lambda: now[0]).told
    assert told(set(), {"frame-1"}) == set()
    renew("frame-1", csr(new_key()), now=timezone.now() - timedelta(days=710))
    assert told(set(), {"frame-1"}) == set()  # not its turn yet
    assert told({"frame-1"}, set()) == {"frame-1"}
    now[0] = EVERY_S
    assert told(set(), {"frame-1"}) == {"frame-1"}
