"""Births: a claim is good once, for a while, and for one key; an answer that was lost is given again."""

import hashlib
import re

import pytest
from django.utils import timezone

from fleet.models import AuditEntry, Claim, Frame, FrameCertificate
from fleet.services.certificates import good_certificates, renew, revoke
from fleet.services.claims import LIFE, claim_again, make_claims, redeem
from protocol.birth import read_claim
from protocol.errors import Refused
from tests.fleet.births import awaited, claim_request, csr, days, new_key
from tests.fleet.factories import make_frame

pytestmark = pytest.mark.django_db


def _claim(frame_id: str = "frame-1") -> str:
    (made,) = make_claims([frame_id], "rosa")
    return made.token


def test_a_claim_brings_a_frame_into_service() -> None:
    awaited()
    token = _claim()
    assert re.fullmatch(r"[a-z2-7]{26}", token)
    assert read_claim(f"https://birth.example/claim/{token}") == token
    key = new_key()
    born = redeem(claim_request(token, key))
    assert (born.certificate.frame_id, born.hardware, born.locale) == ("frame-1", "rk3588", "zh")
    assert good_certificates().get().serial_hex == born.certificate.serial_hex
    frame = Frame.objects.get()
    assert frame.lifecycle == Frame.Lifecycle.ACTIVE
    entry = AuditEntry.objects.get(action="claim")
    assert (entry.actor, entry.detail["serial"]) == ("frame frame-1", born.certificate.serial_hex)


def test_only_a_hash_of_the_token_is_kept() -> None:
    awaited()
    token = _claim()
    assert Claim.objects.get().digest == hashlib.sha256(token.encode()).hexdigest()
    assert not any(token in str(value) for row in Claim.objects.values() for value in row.values())


def test_the_same_key_gets_its_answer_again_and_no_other_does() -> None:
    awaited()
    token, key, now = _claim(), new_key(), timezone.now()
    first = redeem(claim_request(token, key), now=now)
    assert redeem(claim_request(token, key), now=now + days(0.04)) == first
    with pytest.raises(Refused, match="was used on"):
        redeem(claim_request(token, new_key()), now=now)
    with pytest.raises(Refused, match="was used on"):
        redeem(claim_request(token, key), now=now + days(0.05))
    assert FrameCertificate.objects.count() == 1


def test_an_expired_or_unknown_claim_brings_nobody_into_service() -> None:
    awaited()
    token = _claim()
    with pytest.raises(Refused, match="expired on"):
        redeem(claim_request(token, new_key()), now=timezone.now() + LIFE + days(1))
    with pytest.raises(Refused, match="unknown"):
        redeem(claim_request("a" * 26, new_key()))
    assert Frame.objects.get().lifecycle == Frame.Lifecycle.AWAITED
    redeem(claim_request(token, new_key()))


def test_a_request_that_is_refused_leaves_the_claim_good() -> None:
    make_frame("frame-2")
    awaited()
    token, taken = _claim(), new_key()
    renew("frame-2", csr(taken))
    with pytest.raises(Refused, match="Another frame has this key"):
        redeem(claim_request(token, taken))
    redeem(claim_request(token, new_key()))


def test_a_newer_label_makes_the_older_one_worthless() -> None:
    awaited()
    old = _claim()
    new = claim_again("frame-1", "rosa").token
    with pytest.raises(Refused, match="replaced by a newer one"):
        redeem(claim_request(old, new_key()))
    redeem(claim_request(new, new_key()))
    with pytest.raises(Refused, match="holds a good certificate"):
        claim_again("frame-1", "rosa")
    revoke("frame-1", "rosa", "stolen")
    redeem(claim_request(claim_again("frame-1", "rosa").token, new_key()))
    assert good_certificates().count() == 1


def test_a_retired_frame_gets_no_new_label() -> None:
    frame = make_frame()
    frame.lifecycle = Frame.Lifecycle.RETIRED
    frame.save()
    with pytest.raises(Refused, match="is retired"):
        claim_again("frame-1", "rosa")


def test_nobody_is_born_into_a_name_that_came_back_by_itself() -> None:
    make_frame()
    lapsed, now = new_key(), timezone.now()
    renew("frame-1", csr(lapsed), now=now - days(900))
    token = claim_again("frame-1", "rosa").token
    renew("frame-1", csr(lapsed))
    with pytest.raises(Refused, match="holds a good certificate"):
        redeem(claim_request(token, new_key()))
    assert good_certificates().count() == 1


def test_who_held_the_name_before_does_not_come_back_after_a_birth() -> None:
    make_frame()
    renew("frame-1", csr(new_key()), now=timezone.now() - days(900))
    born = redeem(claim_request(claim_again("frame-1", "rosa").token, new_key()))
    kept = FrameCertificate.objects.filter(revoked_at=None)
    assert [row.serial_hex for row in kept] == [born.certificate.serial_hex]
    assert FrameCertificate.objects.count() == 2
