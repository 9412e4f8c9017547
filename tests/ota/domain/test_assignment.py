"""Who is exposed: fixed by a salted hash, nested by share, uniform."""

import hashlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ota.domain.assignment import arm, exposed, household_number, stage_of

salts = st.text("0123456789abcdef", min_size=32, max_size=32)
households = st.text(min_size=1, max_size=20)
numbers = st.floats(0, 1, exclude_max=True)


def test_the_number_is_the_first_64_bits_of_the_salted_hash() -> None:
    digest = hashlib.sha256(b"salt:home").hexdigest()
    assert household_number("salt", "home") == int(digest[:16], 16) / 2**64


@given(salts, households)
def test_it_is_below_one_and_does_not_change(salt: str, household: str) -> None:
    u = household_number(salt, household)
    assert 0 <= u < 1
    assert u == household_number(salt, household)
    assert exposed(u, 1.0)


@given(salts, households)
def test_one_per_cent_is_inside_five_is_inside_twenty_five(salt: str, household: str) -> None:
    u = household_number(salt, household)
    inside = [exposed(u, share) for share in (0.01, 0.05, 0.25, 1.0)]
    assert all(later or not earlier for earlier, later in pairwise(inside))


@given(numbers)
def test_canary_is_below_the_last_share_under_one(u: float) -> None:
    assert arm(u, [0.01, 0.05, 0.25, 1.0]) == ("canary" if u < 0.25 else "control")
    assert arm(u, [0.05, 0.25]) == ("canary" if u < 0.25 else "control")
    assert arm(u, [1.0]) == "canary"


@given(numbers)
def test_the_stage_is_the_first_that_exposes(u: float) -> None:
    shares = [0.05, 0.25, 0.9]
    number = stage_of(u, shares)
    if number is None:
        assert u >= 0.9
    else:
        assert exposed(u, shares[number - 1])
        assert number == 1 or not exposed(u, shares[number - 2])


def test_shares_hold_for_many_households_and_salts_are_independent() -> None:
    first = {n for n in range(20_000) if household_number("one", str(n)) < 0.25}
    second = {n for n in range(20_000) if household_number("two", str(n)) < 0.25}
    # Binomial: sd of 20,000 draws at 25 % is 61, at 6.25 % 34; five of them are never seen.
    assert abs(len(first) - 5_000) < 5 * 61
    assert abs(len(first & second) - 1_250) < 5 * 34
