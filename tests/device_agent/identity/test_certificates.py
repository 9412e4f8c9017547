"""Which certificate a frame takes, and which authorities it lets itself be told."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from device_agent.identity.certificates import Accepted, accept, name_in, vouched
from device_agent.identity.key import public_bytes
from protocol.errors import Reason, Refused
from tests.device_agent.identity.issuer import DAY, NOW, Authority, pem

FRAME = "frame-1"
OLD, NEW, FOREIGN = Authority("fleet CA 1"), Authority("fleet CA 2"), Authority("somebody")
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
OTHER_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


def judged(
    certificate: str,
    ca: str,
    trusted: list[x509.Certificate] | None = None,
    now: dt.datetime | None = NOW,
) -> Accepted:
    return accept(FRAME, public_bytes(KEY), certificate, ca, [OLD.certificate] if trusted is None else trusted, now)


def reason(certificate: str, ca: str, trusted: list[x509.Certificate] | None = None) -> Reason:
    with pytest.raises(Refused) as refused:
        judged(certificate, ca, trusted)
    return refused.value.reason


def test_its_own_certificate_from_an_authority_it_knows_is_taken() -> None:
    certificate = OLD.issue(FRAME, KEY)
    accepted = judged(pem(certificate), pem(OLD.certificate))
    assert accepted.serial == format(certificate.serial_number, "x")
    assert accepted.not_after == certificate.not_valid_after_utc
    assert accepted.ca.decode() == pem(OLD.certificate)
    assert accepted.left_out == ()


def test_anothers_is_not() -> None:
    ca = pem(OLD.certificate)
    assert reason(pem(OLD.issue(FRAME, OTHER_KEY)), ca) is Reason.WRONG_IDENTITY
    assert reason(pem(OLD.issue("frame-2", KEY)), ca) is Reason.WRONG_IDENTITY
    assert reason(pem(OLD.issue(FRAME, KEY, end=NOW - DAY)), ca) is Reason.EXPIRED
    assert reason(pem(FOREIGN.issue(FRAME, KEY)), ca) is Reason.WRONG_SIGNATURE
    assert reason("no PEM", ca) is Reason.BAD_MESSAGE
    assert reason(pem(OLD.issue(FRAME, KEY)), "no PEM") is Reason.BAD_MESSAGE


def test_without_a_clock_its_dates_are_not_looked_at() -> None:
    judged(pem(OLD.issue(FRAME, KEY, end=NOW - DAY)), pem(OLD.certificate), now=None)


def test_an_authority_that_nobody_vouches_for_is_left_out_and_named() -> None:
    bundle = pem(OLD.certificate) + pem(FOREIGN.certificate)
    accepted = judged(pem(OLD.issue(FRAME, KEY)), bundle)
    assert accepted.ca.decode() == pem(OLD.certificate)
    assert accepted.left_out == ("CN=somebody",)
    assert reason(pem(FOREIGN.issue(FRAME, KEY)), bundle) is Reason.WRONG_SIGNATURE
    assert reason(pem(FOREIGN.issue(FRAME, KEY)), pem(FOREIGN.certificate)) is Reason.WRONG_SIGNATURE


def test_a_new_authority_comes_by_a_cross_certificate() -> None:
    chain = pem(NEW.issue(FRAME, KEY)) + pem(OLD.cross(NEW))
    accepted = judged(chain, pem(OLD.certificate) + pem(NEW.certificate))
    assert accepted.left_out == ()
    assert accepted.certificate.decode() == chain, "brokers that know only the old one need the cross certificate"
    alone = judged(chain, pem(NEW.certificate))
    assert alone.ca.decode() == pem(NEW.certificate), "and the old one may go"


def test_a_chain_of_rotations_is_followed() -> None:
    newest = Authority("fleet CA 3")
    crosses = pem(NEW.cross(newest)) + pem(OLD.cross(NEW))
    assert judged(pem(newest.issue(FRAME, KEY)) + crosses, pem(newest.certificate)).left_out == ()


def test_the_name_alone_makes_no_authority() -> None:
    twin = Authority("fleet CA 1")
    assert reason(pem(twin.issue(FRAME, KEY)), pem(twin.certificate)) is Reason.WRONG_SIGNATURE
    forged = FOREIGN.cross(NEW)
    good, left_out = vouched([OLD.certificate], [NEW.certificate, forged])
    assert (good, len(left_out)) == ([], 2)


def test_a_leaf_of_the_fleet_is_no_authority() -> None:
    frame_key = ec.generate_private_key(ec.SECP256R1())
    rogue = Authority(FRAME, frame_key)
    leaf = OLD.issue(FRAME, frame_key.public_key())
    answer = pem(rogue.issue(FRAME, KEY)) + pem(leaf)
    assert reason(answer, pem(rogue.certificate) + pem(OLD.certificate)) is Reason.WRONG_SIGNATURE


def test_too_many_authorities_are_refused() -> None:
    assert reason(pem(OLD.issue(FRAME, KEY)), pem(OLD.certificate) * 9) is Reason.BAD_MESSAGE
    chain = pem(OLD.issue(FRAME, KEY)) + pem(OLD.certificate) * 9
    assert reason(chain, pem(OLD.certificate)) is Reason.BAD_MESSAGE


def test_at_birth_the_answers_own_authorities_count() -> None:
    accepted = accept(FRAME, public_bytes(KEY), pem(NEW.issue(FRAME, KEY)), pem(NEW.certificate), None, NOW)
    assert accepted.ca.decode() == pem(NEW.certificate)


def test_a_certificate_names_a_frame_in_its_cn_and_its_san() -> None:
    assert name_in(OLD.issue(FRAME, KEY)) == FRAME
    assert name_in(OLD.issue("bridge", KEY)) == "bridge"
    with pytest.raises(Refused):
        name_in(OLD.certificate)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "frame-2")])
    mixed = OLD._builder(subject, KEY, NOW - DAY, NOW + DAY, 5).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(FRAME)]), critical=False
    )
    from cryptography.hazmat.primitives import hashes

    with pytest.raises(Refused):
        name_in(mixed.sign(OLD.key, hashes.SHA256()))
