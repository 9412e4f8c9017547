"""Which households a rollout exposes: decided by a salted hash, fixed before anything about them is read.

A household's number u is uniform in [0, 1) and never changes within a rollout, so whoever is inside the 1 % stage is
inside the 5 % stage and inside the 25 % stage.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Literal

Arm = Literal["canary", "control", "holdback"]

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


def canary_shares(shares: Sequence[float], holdback: float = 0.0) -> list[float]:
    """Those of ascending ``shares`` that leave somebody out, not counting the holdback."""
    return [share for share in shares if share < 1.0 - holdback]


def arm(u: float, shares: Sequence[float], holdback: float = 0.0) -> Arm:
    """Holdback at the top, canary below the last share that leaves somebody else out, control in between. A rollout
    without such a stage has nobody to compare with: everyone is canary."""
    if holdback and not exposed(u, 1.0 - holdback):
        return "holdback"
    partial = canary_shares(shares, holdback)
    return "canary" if not partial or exposed(u, partial[-1]) else "control"
