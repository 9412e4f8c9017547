"""The birth endpoint's answers, without its socket."""

import json
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.utils import timezone

from fleet.authority import current
from fleet.birth import throttle
from fleet.birth.endpoint import Endpoint
from fleet.birth.renewal import NONCE_LIFE, new_nonce, renew_lapsed
from fleet.birth.throttle import Throttle
from fleet.models import Frame, FrameCertificate, SpentNonce
from fleet.services.certificates import PREDECESSOR, renew, revoke
from fleet.services.claims import make_claims
from protocol import birth
from protocol.codec import decode, encode
from protocol.envelope import Envelope, Signature
from protocol.errors import Refused
from tests.fleet.births import awaited, claim_request, csr, days, new_key
from tests.fleet.factories import make_frame

pytestmark = pytest.mark.django_db

HOME = "192.0.2.7"


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint(
        time=lambda nonce: Envelope("time", nonce.encode(), [Signature("key", b"s" * 64)]), mqtt="mqtts://broker:8883"
    )


def _proof(certificate: str, key: ec.EllipticCurvePrivateKey, request: str, nonce: str) -> birth.RenewRequest:
    signature = key.sign(birth.proof_bytes(nonce, request), ec.ECDSA(hashes.SHA256()))
    return birth.RenewRequest(certificate=certificate, csr=request, nonce=nonce, signature=signature)


def test_a_frame_is_born(endpoint: Endpoint) -> None:
    awaited()
    (claim,) = make_claims(["frame-1"], "rosa")
    key = new_key()
    status, body = endpoint.answer("POST", birth.CLAIM_PATH, encode(claim_request(claim.token, key)), HOME)
    assert status == 200
    issued = decode(body, birth.Issued)
    assert (issued.frame_id, issued.hardware, issued.locale) == ("frame-1", "rk3588", "zh")
    assert issued.mqtt == "mqtts://broker:8883"
    assert x509.load_pem_x509_certificate(issued.certificate.encode()).public_key() == key.public_key()
    assert issued.ca.encode() == current().bundle


def test_every_refusal_is_one_sentence(endpoint: Endpoint) -> None:
    awaited()
    cases = [
        ("GET", birth.CLAIM_PATH, b"", 405),
        ("POST", "/birth/other", b"", 404),
        ("POST", birth.CLAIM_PATH, b"nonsense", 400),
        ("POST", birth.CLAIM_PATH, encode(claim_request("a" * 26, new_key())), 404),
        ("POST", birth.RENEW_PATH, b"{}", 400),
        ("POST", birth.TIME_PATH, b'{"nonce": "x"}', 400),
        ("POST", birth.CLAIM_PATH, encode(claim_request("a" * 26, new_key(), hardware="a\0b")), 400),
    ]
    for method, path, body, status in cases:
        code, answer = endpoint.answer(method, path, body, HOME)
        assert code == status, path
        sentence = json.loads(answer)["detail"]
        assert sentence.endswith(".")
        assert "\n" not in sentence


def test_the_time_is_bound_to_the_nonce(endpoint: Endpoint) -> None:
    status, body = endpoint.answer("POST", birth.TIME_PATH, encode(birth.Nonce(nonce="a" * 32)), HOME)
    assert status == 200
    assert decode(body, Envelope).payload == b"a" * 32


def test_a_lapsed_certificate_is_renewed_against_proof_of_its_key(endpoint: Endpoint) -> None:
    make_frame()
    old, new = new_key(), new_key()
    lapsed = renew("frame-1", csr(old), now=timezone.now() - days(900))
    status, body = endpoint.answer("POST", birth.NONCE_PATH, b"{}", HOME)
    nonce = decode(body, birth.Nonce).nonce
    request = encode(_proof(lapsed.certificate, old, csr(new), nonce))
    status, body = endpoint.answer("POST", birth.RENEW_PATH, request, HOME)
    assert status == 200
    issued = decode(body, birth.Issued)
    assert x509.load_pem_x509_certificate(issued.certificate.encode()).public_key() == new.public_key()
    # Once more: the nonce is spent. With another one the same key gets the same answer.
    assert endpoint.answer("POST", birth.RENEW_PATH, request, HOME)[0] == 410
    again = renew_lapsed(_proof(lapsed.certificate, old, csr(new), new_nonce()))
    assert again.certificate == issued.certificate
    assert SpentNonce.objects.count() == 2


def test_proof_is_by_the_old_key_over_this_very_request() -> None:
    make_frame()
    old, thief, now = new_key(), new_key(), timezone.now()
    issued = renew("frame-1", csr(old))
    nonce, request = new_nonce(), csr(thief)
    good = _proof(issued.certificate, old, csr(new_key()), nonce)
    swapped = birth.RenewRequest(certificate=good.certificate, csr=request, nonce=good.nonce, signature=good.signature)
    for wrong in (
        _proof(issued.certificate, thief, request, nonce),
        swapped,
        birth.RenewRequest(certificate=issued.certificate, csr=request, nonce=nonce, signature=b"nonsense"),
    ):
        with pytest.raises(Refused, match="not by the certificate's key"):
            renew_lapsed(wrong)
    forged = current().certify("frame-1", thief.public_key()).pem.decode()  # signed by the CA, and not in the books
    with pytest.raises(Refused, match="not one of this fleet's"):
        renew_lapsed(_proof(forged, thief, request, nonce))
    for late, when in ((nonce, now + NONCE_LIFE + timedelta(seconds=5)), ("0" * 32, now)):
        with pytest.raises(Refused, match="nonce"):
            renew_lapsed(_proof(issued.certificate, old, request, late), now=when)
    renew_lapsed(good)


def test_what_was_revoked_or_retired_does_not_come_back_by_renewal() -> None:
    make_frame()
    key = new_key()
    issued = renew("frame-1", csr(key))
    revoke("frame-1", "rosa", "stolen")
    with pytest.raises(Refused, match="was revoked"):
        renew_lapsed(_proof(issued.certificate, key, csr(new_key()), new_nonce()))
    FrameCertificate.objects.update(revoked_at=None)
    Frame.objects.update(lifecycle=Frame.Lifecycle.RETIRED)
    with pytest.raises(Refused, match="not in service"):
        renew_lapsed(_proof(issued.certificate, key, csr(new_key()), new_nonce()))
    assert FrameCertificate.objects.count() == 1


def test_a_predecessor_can_still_prove_itself_when_its_successor_was_lost() -> None:
    make_frame()
    key, now = new_key(), timezone.now()
    issued = renew("frame-1", csr(key), now=now - PREDECESSOR * 3)
    renew("frame-1", csr(new_key()), now=now - PREDECESSOR * 2)
    assert renew_lapsed(_proof(issued.certificate, key, csr(new_key()), new_nonce())).frame_id == "frame-1"


def test_spent_nonces_are_forgotten_when_they_have_expired() -> None:
    make_frame()
    key, now = new_key(), timezone.now()
    issued = renew("frame-1", csr(key))
    renew_lapsed(_proof(issued.certificate, key, csr(new_key()), new_nonce(now)), now=now)
    later = now + days(1)
    renew_lapsed(_proof(issued.certificate, key, csr(new_key()), new_nonce(later)), now=later)
    assert SpentNonce.objects.count() == 1


def test_who_guesses_has_to_wait_and_others_do_not(endpoint: Endpoint) -> None:
    awaited()
    (claim,) = make_claims(["frame-1"], "rosa")
    guess = encode(claim_request("a" * 26, new_key()))
    answers = [endpoint.answer("POST", birth.CLAIM_PATH, guess, HOME)[0] for _ in range(throttle.EACH + 1)]
    assert answers == [404] * throttle.EACH + [429]
    right = encode(claim_request(claim.token, new_key()))
    assert endpoint.answer("POST", birth.CLAIM_PATH, right, HOME)[0] == 429
    assert endpoint.answer("POST", birth.CLAIM_PATH, right, "192.0.2.8")[0] == 200


def test_a_household_with_a_network_of_addresses_is_one_guesser(endpoint: Endpoint) -> None:
    guess = encode(claim_request("a" * 26, new_key()))
    said = [
        endpoint.answer("POST", birth.CLAIM_PATH, guess, f"2001:db8:1:2::{number:x}")[0]
        for number in range(throttle.EACH + 1)
    ]
    assert said == [404] * throttle.EACH + [429]
    assert endpoint.answer("POST", birth.CLAIM_PATH, guess, "2001:db8:1:3::1")[0] == 404


def test_the_throttle_forgets_in_time_and_is_bounded() -> None:
    now = [0.0]
    counts = Throttle(lambda: now[0])
    for number in range(throttle.ALL):
        counts.refused(f"address {number}")
    assert counts.is_closed_to("address 1")
    assert not counts.is_closed_to("newcomer")
    now[0] = throttle.WINDOW_S
    assert not counts.is_closed_to("address 1")
    for number in range(throttle.ADDRESSES + 50):
        counts.refused(f"other {number}")
    assert len(counts._by_address) == throttle.ADDRESSES
