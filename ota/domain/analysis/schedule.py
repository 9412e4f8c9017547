"""Where each of many rehearsed rollouts stands: which stage is open, and for how long its frames have had the release.

    tau_j = t - T_j,  on_j = N_j if T_j < t else 0

| symbol | meaning | unit |
| --- | --- | --- |
| T_j, N_j | when stage j opened, and how many frames it brought | days, frames |
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtrc  # type: ignore[import-untyped]

from ota.domain.analysis.policy import Policy, Stage
from ota.domain.analysis.power import Fleet
from ota.domain.analysis.table import HOURS, FloatArray, IntArray

LOOK_H = 3.0
"""Hours between looks."""
_TYPICAL = 200
"""Frames that stand for all: quantiles of how often frames play."""


class Schedule:
    """Of ``runs`` rollouts through the stages that leave somebody to compare with. Times in looks since the start."""

    def __init__(self, fleet: Fleet, tested: Sequence[Stage], policy: Policy, runs: int) -> None:
        self.policy, self.runs, self.tested = policy, runs, tested
        self.looks = int(policy.last_day * HOURS / LOOK_H)
        self.step = LOOK_H / HOURS
        shares = np.array([stage.share for stage in tested])
        self.new = len(fleet) * np.diff(np.concatenate(([0.0], shares)))
        self.controls = len(fleet) * (1 - shares[-1])
        self.stage = np.zeros(runs, dtype=np.int64)
        self.opened = np.full((runs, len(tested) + 1), self.looks + 1)
        self.opened[:, 0] = 0
        self.going = np.ones(runs, dtype=np.bool_)
        self.look = 0
        self.activity = float(fleet.activity.mean())
        days = np.arange(self.looks + 2) * self.step
        self.days = days
        need = policy.frame_playbacks
        self.typical = np.quantile(fleet.activity, (np.arange(_TYPICAL) + 0.5) / _TYPICAL)
        self._played = np.asarray(pdtrc(need - 1, self.typical * days[:, None]).mean(axis=1))

    def move(self, look: int) -> NDArray[np.bool_]:
        """To the next look: whose rollout still goes on."""
        self.look = look
        self.index: IntArray = np.maximum(look - self.opened[:, :-1], 0)
        self.tau: FloatArray = self.index * self.step
        self.on: FloatArray = self.new * (self.index > 0)
        return self.going.copy()

    def enough(self) -> NDArray[np.bool_]:
        """Minimum exposure."""
        policy, canaries = self.policy, self.on.sum(axis=1)
        needed = np.minimum(policy.canary_frames, np.ceil(policy.canary_share * canaries))
        frames = (self.new * self._played[self.index]).sum(axis=1)
        playbacks = self.activity * (self.new * self.tau).sum(axis=1)
        return np.asarray((playbacks >= policy.canary_playbacks) & (frames >= np.maximum(1.0, needed)))

    def dwelt(self, stage: Stage) -> NDArray[np.bool_]:
        """Whose open stage has been open for its dwell."""
        since = self.look - self.opened[np.arange(self.runs), self.stage]
        return np.asarray(since * LOOK_H >= stage.dwell_h)

    def margins(self, name: str) -> Iterator[tuple[float, NDArray[np.bool_]]]:
        """The stages' margins of a metric, each with the runs it is asked of now."""
        for number, stage in enumerate(self.tested):
            which = self.stage == number
            if name in stage.margins and which.any():
                yield stage.margins[name], which

    def promote(self, which: NDArray[np.bool_], number: int) -> None:
        """Open the stage after ``number``, or end."""
        self.opened[which, number + 1] = self.look
        self.stage[which] = number + 1
        self.going[which] = number + 2 < self.opened.shape[1]

    def stop(self, which: NDArray[np.bool_]) -> None:
        """No further looks."""
        self.going[which] = False

    def overlap(self, height: FloatArray) -> FloatArray:
        """int (sum_j height_j 1(T_j <= s))^2 ds, for ``height`` of shape (runs, stages)."""
        shared = np.minimum(self.tau[:, :, None], self.tau[:, None, :])
        return np.asarray(np.einsum("rj,rk,rjk->r", height, height, shared))
