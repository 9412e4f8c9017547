"""Events as the agent records them. ``seq`` 0 stands until the outbox numbers them."""

import secrets
from collections.abc import Sequence

from device_agent.ports import TrialReport
from device_agent.power import PowerFigures
from protocol.errors import Reason
from protocol.limits import MAX_TEXT
from protocol.messages import Failure, HealthEvent, LipError, PowerSample

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


def power_sample(figures: PowerFigures, *, at: int, release: str | None) -> PowerSample:
    """One playback's power, cut to what a message may carry."""

    def watts(value: float) -> float:
        return round(min(max(value, 0.0), 1_000.0), 3)

    return PowerSample(
        seq=UNNUMBERED,
        at=at,
        release=release,
        window_s=min(max(figures.window_s, 0.0), 86_400.0),
        total_w=watts(figures.total_w),
        npu_w=None if figures.npu_w is None else watts(figures.npu_w),
        cpu_w=None if figures.cpu_w is None else watts(figures.cpu_w),
        estimated=figures.estimated,
    )


def trial_report(lip_errors: tuple[LipError, ...], figures: dict[str, float], failures: Sequence[str]) -> TrialReport:
    """What a trial measured; ``failures``, a sentence each, make it a failed one."""
    failure = None
    if failures:
        failure = Failure(reason=Reason.TRIAL_FAILED, detail=sentence(" ".join(failures)))
    return TrialReport(lip_errors=lip_errors, figures=figures, failure=failure)
