"""Whatever comes to the birth endpoint: an answer in one sentence, nothing stored, no fault of ours."""

import base64
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.birth.endpoint import Endpoint
from fleet.birth.renewal import new_nonce
from fleet.birth.throttle import Throttle
from fleet.models import FrameCertificate, SpentNonce
from fleet.services.certificates import read_csr
from fleet.services.imports import import_frames
from protocol import birth
from protocol.codec import encode
from protocol.envelope import Envelope, Signature
from protocol.errors import Refused
from tests.fleet.births import csr, new_key

pytestmark = pytest.mark.django_db

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PATHS = st.sampled_from([birth.CLAIM_PATH, birth.NONCE_PATH, birth.RENEW_PATH, birth.TIME_PATH, "/", "/birth/"])
CSR = csr(new_key())
DER = x509.load_pem_x509_csr(CSR.encode()).public_bytes(serialization.Encoding.DER)


class Open(Throttle):
    """Hears everybody, so that all that is fuzzed comes through."""

    def is_closed_to(self, address: str) -> bool:
        return False


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint(lambda nonce: Envelope("t", b"", [Signature("k", b"s" * 64)]), None, Open())


def _is_answered(endpoint: Endpoint, path: str, body: bytes) -> None:
    status, answer = endpoint.answer("POST", path, body, "192.0.2.1")
    assert status in (200, 400, 403, 404, 410)
    if status != 200:
        assert json.loads(answer)["detail"]
    assert not FrameCertificate.objects.exists()
    assert not SpentNonce.objects.exists()


def _damaged(data: bytes, edits: list[tuple[int, int]]) -> bytes:
    found = bytearray(data)
    for place, value in edits:
        found[place % len(found)] = value
    return bytes(found)


EDITS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["claim", "csr", "nonce"]), inner),
    max_leaves=8,
)


@FUZZ
@given(path=PATHS, body=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_answered(endpoint: Endpoint, path: str, body: bytes) -> None:
    _is_answered(endpoint, path, body)


@FUZZ
@given(edits=EDITS)
def test_a_damaged_claim_or_renewal_is_answered(endpoint: Endpoint, edits: list[tuple[int, int]]) -> None:
    claim = birth.ClaimRequest(claim="a" * 26, csr=CSR, hardware="rk3588", locale="zh", agent_version="1")
    _is_answered(endpoint, birth.CLAIM_PATH, _damaged(encode(claim), edits))
    renewal = birth.RenewRequest(certificate=CSR, csr=CSR, nonce=new_nonce(), signature=b"x" * 70)
    _is_answered(endpoint, birth.RENEW_PATH, _damaged(encode(renewal), edits))


@FUZZ
@given(edits=EDITS)
def test_a_damaged_certificate_request_is_refused_or_still_proves_its_key(edits: list[tuple[int, int]]) -> None:
    text = base64.encodebytes(_damaged(DER, edits)).decode()
    try:
        read_csr(f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n")
    except Refused as refused:
        assert refused.detail.endswith(".")


@FUZZ
@given(
    lines=st.lists(st.text(max_size=60) | st.sampled_from(["wall-1,home,zh,rk3588\n", '"', "\0", ",,,\n"]), max_size=6)
)
def test_any_csv_is_refused_in_one_sentence_or_taken(lines: list[str]) -> None:
    taken: list[Any] = []
    try:
        taken = import_frames(["frame_id,household,locale,hardware\n", *lines], "rosa")
    except Refused as refused:
        assert "\n" not in refused.detail
    assert {claim.frame_id for claim in taken} <= {"wall-1"}
