"""Events as the agent records them. ``seq`` 0 stands until the outbox numbers them."""

import secrets

from protocol.limits import MAX_TEXT
from protocol.messages import Failure, HealthEvent, PowerSample

UNNUMBERED = 0


def random_id() -> str:
    """128 random bits in hex."""
    return secrets.token_hex(16)


def sentence(text: str) -> str:
    """``text`` on one line and cut to what a message may carry."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def health(
    kind: str, detail: str, *, at: int, release: str | None, figures: dict[str, float] | None = None
) -> HealthEvent:
    """Something ops should know; ``at`` in ms since 1970 UTC."""
    return HealthEvent(
        seq=UNNUMBERED, at=at, release=release, kind=kind, detail=sentence(detail), figures=figures or {}
    )


def refusal(failure: Failure, *, at: int, release: str | None) -> HealthEvent:
    """A refusal; its reason is the event's kind."""
    return health(failure.reason.value, failure.detail, at=at, release=release)


ASSUMED_W = 4.8
"""The planning figure for a frame's mean power. It was not measured on any frame."""


def estimated_power(seconds: float, *, at: int, release: str | None) -> PowerSample:
    """One playback's power where no meter exists: the planning figure, said to be estimated.

    Such samples show that the path works; being constant they say nothing about a release.
    """
    window_s = min(max(seconds, 0.0), 86_400.0)
    return PowerSample(seq=UNNUMBERED, at=at, release=release, window_s=window_s, total_w=ASSUMED_W, estimated=True)
