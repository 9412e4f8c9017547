"""Whatever comes over the wire is understood or refused in one sentence; nothing crashes, and memory stays bounded."""

import base64
import functools
import json
import re
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from device_agent.identity.certificates import accept
from device_agent.storage.journal import MemoryDocuments
from device_agent.trust.director import verify_desired, verify_time
from device_agent.trust.image import director_root
from protocol import topics
from protocol.birth import Issued, Nonce
from protocol.chunks import sha256_hex
from protocol.codec import decode
from protocol.envelope import DESIRED_STATE_TYPE, SIGNED_TIME_TYPE, Envelope, Signature, signed_bytes
from protocol.errors import Refused
from protocol.messages import (
    Ack,
    AnyAnswer,
    CertificateAnswer,
    DesiredState,
    RefusedAnswer,
    RepoHead,
    SignedTime,
    TimeAnswer,
    TransferPolicy,
)
from protocol.repository import ReleaseManifest
from tests.device_agent.frame import FRAME, Frame
from tests.device_agent.fuzzing import bounded, damaged
from tests.device_agent.hostile import BOMBS, fuzz, hostile
from tests.device_agent.identity.issuer import Authority, pem
from tests.device_agent.repository import Published, Repository, desired, now_ms

SENTENCE = re.compile(r".+\.", re.DOTALL)
NONCE = "0" * 31 + "1"


@functools.cache
def backend() -> tuple[Repository, Published]:
    repository = Repository()
    base = repository.base(b"model" * 100)
    return repository, repository.release("portrait", "1.0", [base, repository.adapter(b"fix", base)])


@functools.cache
def state() -> DesiredState:
    policy = TransferPolicy(quiet_from=60, quiet_to=120, daily_bytes=1_000, http="https://cdn.example")
    return desired(FRAME, 5, backend()[1], transfer=policy)


def sealed(payload: bytes, kind: str = DESIRED_STATE_TYPE) -> bytes:
    """An envelope with a good signature, whatever is in it."""
    director = backend()[0].director
    signature = bytes.fromhex(director.sign(signed_bytes(kind, payload)).signature)
    return msgspec.json.encode(Envelope(kind, payload, [Signature(director.public_key.keyid, signature)]))


@functools.cache
def messages() -> dict[Any, bytes]:
    """One good message of every kind that comes to a frame."""
    time = msgspec.json.decode(sealed(b"{}", SIGNED_TIME_TYPE), type=Envelope)
    answers = (
        TimeAnswer(nonce=NONCE, time=time),
        CertificateAnswer(nonce=NONCE, certificate="-----BEGIN", ca="-----BEGIN"),
        RefusedAnswer(nonce=NONCE, detail="No."),
    )
    issued = Issued(frame_id=FRAME, hardware="rk3588", locale="zh", certificate="x", ca="y", mqtt="mqtts://h:1")
    manifest = ReleaseManifest(name="portrait", version="1", targets=state().targets, notes="n")
    known: dict[Any, msgspec.Struct] = {
        DesiredState: state(),
        Ack: Ack(outbox_id=NONCE, seq=3, desired_version=4, hello=True, renew=True),
        RepoHead: RepoHead(root=1, timestamp=2, director_root=3),
        ReleaseManifest: manifest,
        SignedTime: SignedTime(nonce=NONCE, at=now_ms()),
        Issued: issued,
        Nonce: Nonce(nonce=NONCE),
    }
    texts = {kind: msgspec.json.encode(message) for kind, message in known.items()}
    texts[Envelope] = sealed(msgspec.json.encode(state()))
    texts[AnyAnswer] = msgspec.json.encode(answers[0])
    return texts


@pytest.mark.parametrize("kind", list(messages()), ids=lambda kind: getattr(kind, "__name__", "AnyAnswer"))
@fuzz(60)
@given(data=st.data())
def test_a_message_is_understood_or_refused(kind: Any, data: st.DataObject) -> None:
    text = data.draw(hostile([messages()[kind]]))
    with bounded(30):
        try:
            message = decode(text, kind)
        except Refused as refused:
            assert SENTENCE.fullmatch(refused.detail)
        else:
            assert decode(msgspec.json.encode(message), kind) == message  # what was let in can be said again


@pytest.mark.parametrize("kind", list(messages()), ids=lambda kind: getattr(kind, "__name__", "AnyAnswer"))
@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: repr(bomb[:8]))
def test_bombs_are_refused_cheaply(kind: Any, bomb: bytes) -> None:
    with bounded(20, seconds=1), pytest.raises(Refused):
        decode(bomb, kind)


@fuzz(80)
@given(hostile([messages()[DesiredState]]), st.booleans())
def test_what_the_director_seems_to_say_is_believed_or_refused(text: bytes, good: bool) -> None:
    root = director_root(MemoryDocuments(backend()[0].anchors()))
    envelope = sealed(text) if good else text
    with bounded(30):
        try:
            verify_desired(envelope, root, FRAME, 0)
        except Refused as refused:
            assert SENTENCE.fullmatch(refused.detail)


@fuzz(60)
@given(hostile([messages()[SignedTime]]))
def test_what_time_the_director_seems_to_say_is_believed_or_refused(text: bytes) -> None:
    root = director_root(MemoryDocuments(backend()[0].anchors()))
    try:
        at = verify_time(msgspec.json.decode(sealed(text, SIGNED_TIME_TYPE), type=Envelope), root, NONCE)
    except Refused as refused:
        assert SENTENCE.fullmatch(refused.detail)
    else:
        assert at >= 0


# --- a whole frame ----------------------------------------------------------------------------------------------------


@fuzz(80)
@given(st.data())
def test_a_frame_survives_whatever_its_topics_and_the_repository_carry(data: st.DataObject) -> None:
    """Good signatures over lies included: no refusal is one of the agent's own faults, and the frame goes on."""
    repository, release = backend()
    retained = dict(repository.retained)
    frame = Frame(retained, repository.anchors())
    frame.connect()
    documents = sorted(topic for topic in retained if topic.startswith(("repo/meta", "repo/head")))
    for _ in range(data.draw(st.integers(1, 3))):
        match data.draw(st.sampled_from(["desired", "sealed", "ack", "document", "answer"])):
            case "desired":
                frame.give(data.draw(hostile([messages()[Envelope]])))
            case "sealed":
                frame.give(sealed(data.draw(hostile([messages()[DesiredState]]))))
            case "document":
                topic = data.draw(st.sampled_from(documents))
                retained[topic] = data.draw(hostile([repository.retained[topic]]))
            case kind:
                topic = topics.frame_topic(FRAME, "ack" if kind == "ack" else "answer")
                text = data.draw(hostile([messages()[Ack if kind == "ack" else AnyAnswer]]))
                frame.run(frame.core.received(topic, text, frame.now))
    frame.give(sealed(msgspec.json.encode(msgspec.structs.replace(state(), transfer=msgspec.UNSET))))
    frame.wait(60)
    assert [event.detail for event in frame.health if event.kind == "internal"] == []
    retained.update(repository.retained)
    frame.give(sealed(msgspec.json.encode(desired(FRAME, 2**53, release))))
    frame.wait(60)
    assert frame.core.playing is not None
    assert frame.core.playing.release == release.release.sha256


@fuzz(60)
@given(st.data())
def test_a_release_manifest_and_its_target_that_lie_are_refused_or_right(data: st.DataObject) -> None:
    """Signed by the release key itself, and wrong all the same."""
    repository = Repository(keys=backend()[0].keys, director=backend()[0].director)
    base = repository.base(b"model" * 100)
    good = repository.release("portrait", "1.0", [base])
    manifest = data.draw(hostile([repository.retained[topics.chunk_topic(good.release.sha256)]]))
    custom = data.draw(st.sampled_from(["manifest", "custom"]))
    target = repository.files[good.release.path]
    if custom == "custom":
        text = data.draw(hostile([json.dumps(target.unrecognized_fields["custom"]).encode()]))
        try:
            target.unrecognized_fields["custom"] = json.loads(text)
        except (ValueError, RecursionError):
            target.unrecognized_fields["custom"] = text.hex()
        release = good
    else:
        manifest = manifest or b" "
        ref = repository.add(good.release.path, manifest[:65_536], repository.manifest_of(good.release.path))
        release = Published(ref, [base])
    try:
        repository.publish()
    except Exception:  # python-tuf signs no NaN and no fractions
        return
    frame = Frame(repository.retained, repository.anchors())
    frame.connect()
    with bounded(40):
        frame.give(repository.envelope(desired(FRAME, 1, release)))
        frame.wait(30)
    assert frame.reports[-1].state in ("committed", "failed")
    assert [event.detail for event in frame.health if event.kind == "internal"] == []


@fuzz(60)
@given(st.data())
def test_a_chunk_index_that_lies_is_refused(data: st.DataObject) -> None:
    repository = Repository(keys=backend()[0].keys, director=backend()[0].director)
    content = bytes(150_000)
    base = repository.base(content)
    root = repository.manifest_of(base.path).index
    assert root is not None
    index = repository.retained[topics.chunk_topic(root)]
    lie = data.draw(st.one_of(damaged([index]), st.binary(min_size=len(index), max_size=len(index))))
    named = repository.files[base.path].unrecognized_fields["custom"]
    if data.draw(st.booleans()):  # the signed target names the lie: a key that signs artifacts was careless or stolen
        named["index"] = sha256_hex(lie)
        repository.retained[topics.chunk_topic(sha256_hex(lie))] = lie
    else:
        repository.retained[topics.chunk_topic(root)] = lie
    release = repository.release("portrait", "1.0", [base])
    frame = Frame(repository.retained, repository.anchors())
    frame.connect()
    with bounded(40):
        frame.give(repository.envelope(desired(FRAME, 1, release)))
        frame.wait(120)
    last = frame.reports[-1]
    if lie != index:
        assert last.failure is not None
        assert last.failure.reason.value in ("not_available", "tampered_chunk", "bad_artifact", "bad_message")


# --- certificates -----------------------------------------------------------------------------------------------------


@functools.cache
def certificate() -> tuple[bytes, bytes, bytes]:
    """A good answer: the certificate in DER, its authority in DER, and the public key that it is for."""
    authority = Authority()
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = authority.issue(FRAME, key.public_key())
    der = serialization.Encoding.DER
    public = key.public_key().public_bytes(der, serialization.PublicFormat.SubjectPublicKeyInfo)
    return leaf.public_bytes(der), authority.certificate.public_bytes(der), public


def as_pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"


@fuzz(250)
@given(st.data())
def test_a_certificate_that_is_damaged_or_lies_is_accepted_or_refused(data: st.DataObject) -> None:
    leaf, authority, public = certificate()
    which = data.draw(st.sampled_from(["leaf", "authority", "text"]))
    own, ca = as_pem(leaf), as_pem(authority)
    if which == "leaf":
        own = as_pem(data.draw(damaged([leaf, authority])))
    elif which == "authority":
        ca += as_pem(data.draw(damaged([leaf, authority])))
    else:
        own = data.draw(damaged([own.encode()])).decode("utf-8", "replace")
    trusted = data.draw(st.sampled_from([None, [x509.load_der_x509_certificate(authority)]]))
    with bounded(20):
        try:
            accepted = accept(FRAME, public, own, ca, trusted, None)
        except Refused as refused:
            assert SENTENCE.fullmatch(refused.detail)
        else:
            assert pem(x509.load_pem_x509_certificate(accepted.certificate))
