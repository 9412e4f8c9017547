"""What a frame and the birth endpoint say to each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.birth import proof_bytes, read_claim
from protocol.errors import Refused

TOKEN = "abcdefghijklmnopqrstuvwx23"


@pytest.mark.parametrize(
    "text",
    [TOKEN, TOKEN.upper(), "ABCDE-FGHIJ-KLMNO-PQRST-UVWX2-3", f" {TOKEN}\n", f"https://fleet.example/claim/{TOKEN}"],
)
def test_a_claim_token_is_read_as_people_type_it_and_as_a_qr_code_carries_it(text: str) -> None:
    assert read_claim(text) == TOKEN


@given(st.text(max_size=60))
def test_whatever_is_typed_is_a_token_or_one_sentence(text: str) -> None:
    try:
        assert len(read_claim(text)) == 26
    except Refused as refused:
        assert refused.detail.endswith("label.")


def test_a_proof_covers_nonce_and_request() -> None:
    assert proof_bytes("00" * 16, "csr") != proof_bytes("01" * 16, "csr")
    assert proof_bytes("00" * 16, "csr") != proof_bytes("00" * 16, "csr2")
