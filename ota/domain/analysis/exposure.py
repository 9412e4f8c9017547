"""Minimum exposure: have enough canaries really played the release, and have controls not?

    enough       = N >= 100 and F >= min(20, ceil(0.8 F_T)),  F counts canaries with >= 3 playbacks under the release
    contaminated = controls that played it / controls that played > 5 %

The tests on completion, power, latency and frames per second are asymptotic: with a handful of frames their variances
are not to be believed. A frame that reports success but plays the old version adds nothing to N: playbacks carry the
release they ran under. Whether it counts as a canary is assignment's business alone.

| symbol | meaning |
| --- | --- |
| N | playbacks of canaries under the release since their offer |
| F_T | canaries |

Swapped arms (the release went to those called control) show up twice: controls play the release, canaries do not.
"""

import math
from dataclasses import dataclass

from ota.domain.analysis.policy import Policy
from ota.domain.analysis.table import Arm, Table, sum_by


@dataclass(frozen=True, slots=True)
class Exposure:
    """What was really played, and how much of it there must be."""

    canaries: int
    playbacks: int
    frames: int
    frames_needed: int
    playbacks_needed: int
    control_share: float
    """Share of the controls that played anything which played the release."""

    @property
    def enough(self) -> bool:
        """Whether the asymptotic tests count."""
        return self.playbacks >= self.playbacks_needed and self.frames >= max(1, self.frames_needed)


def exposure(table: Table, policy: Policy) -> Exposure:
    """Counts over the whole rollout."""
    frames, days = table.frames, table.days
    played = sum_by(days.frame, days.playbacks, len(frames))
    released = sum_by(days.frame, days.under_release, len(frames))
    canary, control = frames.arm == Arm.CANARY, (frames.arm == Arm.CONTROL) & (played > 0)
    canaries = int(canary.sum())
    return Exposure(
        canaries=canaries,
        playbacks=int(released[canary].sum()),
        frames=int((released[canary] >= policy.frame_playbacks).sum()),
        frames_needed=min(policy.canary_frames, math.ceil(policy.canary_share * canaries)),
        playbacks_needed=policy.canary_playbacks,
        control_share=float((released[control] > 0).mean()) if control.any() else 0.0,
    )
