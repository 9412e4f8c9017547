"""Certificates and time over a real broker and a real HTTPS endpoint: renewed, lapsed, out of date, unknown."""

import logging
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device_agent import transport
from device_agent.tls import NO_CHECK_TIME
from protocol import topics
from protocol.codec import decode, encode
from protocol.envelope import SIGNED_TIME_TYPE, Envelope
from protocol.messages import (
    AnyRequest,
    CertificateAnswer,
    CertificateRequest,
    HealthEvent,
    SignedTime,
    TimeAnswer,
    TimeRequest,
)
from tests.device_agent.identity.issuer import (
    DAY,
    NOW,
    Authority,
    BirthEndpoint,
    birth_endpoint,
    pem,
    write_identity,
)
from tests.device_agent.identity.live import LiveFrame
from tests.device_agent.live import FRAME, Backend, LiveAgent, backend_user, frame_user, until
from tests.device_agent.repository import Repository, now_ms
from tests.services import BrokerHandle, TestAuthority, mqtt_broker, test_authority

pytestmark = pytest.mark.slow


def fleet(authority: TestAuthority) -> Authority:
    """The broker's own authority, to issue certificates for keys that frames made."""
    key = serialization.load_pem_private_key((authority.folder / "ca-key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    issuer = Authority(key=key)
    issuer.certificate = x509.load_pem_x509_certificate(authority.ca.read_bytes())
    issuer.name = issuer.certificate.subject
    return issuer


class Answering(Backend):
    """A backend that also answers requests, as ``answer`` says."""

    def __init__(self, broker: BrokerHandle, repository: Repository, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[TimeRequest | CertificateRequest] = []
        self.repository = repository
        self.issue: Callable[[CertificateRequest], CertificateAnswer] | None = None
        super().__init__(broker, tls)

    def _took(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        topic = topics.parse_up(message.topic)
        if topic is None or topic.kind != "request":
            super()._took(client, data, message)
            return
        request: AnyRequest = decode(message.payload, AnyRequest)  # type: ignore[arg-type]
        self.requests.append(request)
        answer: msgspec.Struct | None = None
        if isinstance(request, TimeRequest):
            answer = TimeAnswer(nonce=request.nonce, time=signed_time(self.repository, request.nonce))
        elif isinstance(request, CertificateRequest) and self.issue is not None:
            answer = self.issue(request)
        if answer is not None:
            client.publish(topics.frame_topic(topic.frame_id, "answer"), encode(answer))


def signed_time(repository: Repository, nonce: str) -> Envelope:
    signed = SignedTime(nonce=nonce, at=now_ms())
    return decode(repository.envelope(signed, kind=SIGNED_TIME_TYPE), Envelope)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_draw_backoff", lambda client: client.reconnect_delay_set(0.1, 0.2))


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerHandle]:
    with mqtt_broker(tmp_path, [backend_user(), frame_user(FRAME)]) as handle:
        yield handle


@pytest.fixture
def backend(broker: BrokerHandle, repository: Repository) -> Iterator[Answering]:
    backend = Answering(broker, repository)
    yield backend
    backend.close()


def agent_with(
    tmp_path: Path, broker: BrokerHandle, repository: Repository, begin: Any, end: Any, **more: object
) -> LiveAgent:
    agent = LiveAgent(tmp_path / "frame", broker, FRAME, repository.anchors())
    write_identity(agent.folder / "identity", fleet(broker.authority), FRAME, begin, end, **more)
    return agent


def test_an_agent_late_in_its_certificates_life_gets_the_next_one_and_connects_with_it(
    tmp_path: Path, broker: BrokerHandle, backend: Answering, repository: Repository
) -> None:
    agent = agent_with(tmp_path, broker, repository, NOW - 25 * DAY, NOW + 5 * DAY)
    authority = fleet(broker.authority)

    def issue(request: CertificateRequest) -> CertificateAnswer:
        key = x509.load_pem_x509_csr(request.csr.encode()).public_key()
        certificate, ca = pem(authority.issue(FRAME, key)), pem(authority.certificate)
        return CertificateAnswer(nonce=request.nonce, certificate=certificate, ca=ca)

    backend.issue = issue
    agent.start()
    try:
        until(lambda: len(backend.hellos) == 2)
        assert agent.ask("/status")[1]["certificate"]["until"] > (NOW + 29 * DAY).isoformat()
        until(lambda: not (agent.folder / "identity" / "key.pem").exists())
    finally:
        assert agent.stop() == 0
    assert len(backend.requests) == 1
    assert len({hello.session for hello in backend.hellos}) == 1, "one process, two connections"
    assert not list(backend.events.values())
    agent.start()
    try:
        until(lambda: len(backend.hellos) == 3)
    finally:
        agent.stop()
    assert backend.hellos[2].session != backend.hellos[1].session


def test_a_new_certificate_that_the_broker_does_not_take_gives_way_to_the_old_one(
    tmp_path: Path, broker: BrokerHandle, backend: Answering, repository: Repository
) -> None:
    write_identity(tmp_path / "frame" / "identity", fleet(broker.authority), FRAME, NOW - 25 * DAY, NOW + 5 * DAY)
    next_authority = Authority("the next CA")

    def issue(request: CertificateRequest) -> CertificateAnswer:
        key = x509.load_pem_x509_csr(request.csr.encode()).public_key()
        known = fleet(broker.authority)
        # The frame can see that its own authority vouches for the next one; the broker is not shown.
        ca = pem(known.certificate) + pem(known.cross(next_authority)) + pem(next_authority.certificate)
        return CertificateAnswer(nonce=request.nonce, certificate=pem(next_authority.issue(FRAME, key)), ca=ca)

    backend.issue = issue
    frame = LiveFrame(tmp_path / "frame", broker.url, repository.anchors(), time.time)
    try:
        until(lambda: len(backend.hellos) == 2)
        until(lambda: bool(backend.events))
    finally:
        frame.stop()
    (event,) = backend.events.values()
    assert isinstance(event, HealthEvent)
    assert (event.kind, "refuses this frame's new certificate" in event.detail) == ("renewal_failed", True)
    assert not frame.pairs.trying
    assert frame.pairs.current.name == ""


def test_a_certificate_that_lapsed_in_a_drawer_is_renewed_against_proof_of_its_key(
    tmp_path: Path, broker: BrokerHandle, backend: Answering, repository: Repository
) -> None:
    endpoint = BirthEndpoint(fleet(broker.authority))
    with birth_endpoint(tmp_path / "server", endpoint):
        agent = agent_with(tmp_path, broker, repository, NOW - 800 * DAY, NOW - 70 * DAY, server=endpoint.url)
        agent.start()
        try:
            until(lambda: bool(backend.hellos))
        finally:
            assert agent.stop() == 0
    (request,) = endpoint.proven
    assert endpoint.asked == ["/birth/nonce", "/birth/renew"]
    assert x509.load_pem_x509_csr(request.csr.encode()).public_key() != (
        x509.load_pem_x509_certificate(request.certificate.encode()).public_key()
    )


def test_without_a_clock_dates_are_let_go_only_to_ask_for_the_time(
    tmp_path: Path, repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "device_agent")
    users = [backend_user(), frame_user(FRAME)]
    # What whoever stole the key of a broker's certificate, long expired, could set up.
    test_authority(tmp_path / "broker" / "ca").issue("broker", server=True, days=-1)
    with mqtt_broker(tmp_path, users) as broker:
        write_identity(tmp_path / "frame" / "identity", fleet(broker.authority), FRAME)
        undated = ssl.create_default_context(cafile=str(broker.ca))
        undated.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
        backend = Answering(broker, repository, undated)
        frame = LiveFrame(tmp_path / "frame", broker.url, repository.anchors(), lambda: 0.0)
        try:
            until(lambda: frame.clock.source == "signed")
            until(lambda: caplog.text.count("CN=broker is good from") >= 2)
            assert len(backend.requests) == 1
            assert (backend.hellos, backend.reports) == ([], [])
            assert not frame.core.online
            backend.close()

            broker.stop()
            for path in (tmp_path / "broker" / "ca").glob("broker*.pem"):
                path.unlink()
            broker.authority.issue("broker", server=True)
            broker.start()
            backend = Answering(broker, repository)
            until(lambda: bool(backend.hellos))
            assert backend.requests == [], "the time is known now"
        finally:
            frame.stop()
            backend.close()


def test_without_a_clock_and_with_a_lapsed_certificate_the_birth_endpoint_helps_with_both(
    tmp_path: Path, broker: BrokerHandle, backend: Answering, repository: Repository
) -> None:
    endpoint = BirthEndpoint(fleet(broker.authority), time=lambda nonce: signed_time(repository, nonce))
    with birth_endpoint(tmp_path / "server", endpoint):
        write_identity(
            tmp_path / "frame" / "identity",
            fleet(broker.authority), FRAME, NOW - 800 * DAY, NOW - 70 * DAY, server=endpoint.url,
        )  # fmt: skip
        frame = LiveFrame(tmp_path / "frame", broker.url, repository.anchors(), lambda: 0.0)
        try:
            until(lambda: bool(backend.hellos))
        finally:
            frame.stop()
    assert endpoint.asked == ["/birth/time", "/birth/nonce", "/birth/renew"]
    assert frame.clock.source == "signed"
