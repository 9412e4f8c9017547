"""Which households a rollout exposes: decided by a salted hash, fixed before anything about them is read.

A household's number u is uniform in [0, 1) and never changes within a rollout, so whoever is inside the 1 % stage is
inside the 5 % stage and inside the 25 % stage.
"""

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

Arm = Literal["canary", "control"]

_BELOW_ONE = math.nextafter(1.0, 0.0)


def household_number(salt: str, household_id: str) -> float:
    """u = first 64 bits of SHA-256(salt ":" household_id) / 2^64, in [0, 1)."""
    digest = hashlib.sha256(f"{salt}:{household_id}".encode()).digest()
    # The largest 64-bit numbers round up to 1.0 as a float; nobody may fall out of a stage of 100 %.
    return min(int.from_bytes(digest[:8]) / 2.0**64, _BELOW_ONE)


def exposed(u: float, share: float) -> bool:
    """Whether a household of number ``u`` belongs to a stage of ``share`` (0 to 1)."""
    return u < share


def stage_of(u: float, shares: Sequence[float]) -> int | None:
    """Number (from 1) of the first stage that exposes ``u``, None when no stage does. ``shares`` ascend."""
    for number, share in enumerate(shares, start=1):
        if exposed(u, share):
            return number
    return None


def arm(u: float, shares: Sequence[float]) -> Arm:
    """Canary below the last share that leaves somebody out, control above it. A rollout without such a stage has
    nobody to compare with: everyone is canary."""
    partial = [share for share in shares if share < 1.0]
    return "canary" if not partial or exposed(u, partial[-1]) else "control"


def check_shares(shares: Sequence[float]) -> None:
    """Raises ValueError with one sentence unless ``shares`` are 1 to 10 ascending numbers above 0, the last one 1 at
    most."""
    if not 1 <= len(shares) <= 10:
        raise ValueError("A rollout has 1 to 10 stages: give their shares, such as 0.05, 0.25, 1.0.")
    # Written so that NaN is refused too.
    if not all(0.0 < share <= 1.0 for share in shares):
        raise ValueError("A stage's share is a number above 0 and at most 1: write 5 % as 0.05.")
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise ValueError("Every stage must be larger than the one before it: give ascending shares.")
