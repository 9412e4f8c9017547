"""What is known of a rollout at one moment, and what its newest stage still waits for. Pure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ota.domain.analysis.verdict import Decision
from ota.domain.causes import Cause, Code
from ota.domain.deployment import FAILURES, SETTLED, DeploymentState
from ota.domain.plan import GateKind

if TYPE_CHECKING:
    from ota.domain.rollout import Rollout, Stage


@dataclass(frozen=True, slots=True)
class StageFacts:
    """Deployments of one stage by state, as of now. Frames of later stages are not in it."""

    counts: Mapping[DeploymentState, int]

    @property
    def frames(self) -> int:
        """All frames of the stage."""
        return sum(self.counts.values())

    @property
    def settled(self) -> int:
        """Frames the stage need not wait for any longer."""
        return sum(self.counts.get(state, 0) for state in SETTLED)

    @property
    def complete(self) -> bool:
        """Whether the stage waits for nobody."""
        return self.settled == self.frames

    @property
    def failed(self) -> int:
        """Frames that failed or went back."""
        return sum(self.counts.get(state, 0) for state in FAILURES)

    @property
    def committed(self) -> int:
        """Frames that run the release for good."""
        return self.counts.get(DeploymentState.COMMITTED, 0)


@dataclass(frozen=True, slots=True)
class LookFacts:
    """The newest look at the evidence: which stage it was about, and what it says. ``evidence`` is the total of harm
    and ``needed`` what it is held against; ``benefit`` whether the plan's benefit is shown."""

    number: int
    stage: int
    at: datetime
    decision: Decision
    reason: str
    metrics: tuple[str, ...] = ()
    evidence: float = 0.0
    needed: float = 20.0
    benefit: bool = False
    stale: bool = False
    """So old that looking seems to have stopped: no reason to open a stage."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that ``decide`` looks at. ``frozen`` is why nothing may be offered anywhere, None when it may; ``returning``
    counts frames that were told to go back and have neither done so nor fallen silent."""

    stages: Mapping[int, StageFacts] = field(default_factory=dict)
    look: LookFacts | None = None
    frozen: str | None = None
    returning: int = 0

    def of(self, number: int) -> StageFacts:
        """Those of one stage."""
        return self.stages.get(number, NOTHING)

    def look_at(self, stage: int) -> LookFacts | None:
        """The newest look, if it was at this stage."""
        return self.look if self.look is not None and self.look.stage == stage else None


NOTHING = StageFacts({})

Gate = Callable[["Rollout", int, Facts, datetime], Cause | None]
"""What stage ``number`` waits for before the next may open, None for nothing; its dwell is over by then."""


def waits_for(rollout: "Rollout", facts: Facts, now: datetime) -> Cause | None:
    """What a running rollout's newest stage waits for before the next may open; None when it may.

    A stage with a verdict PROMOTE is not held up by its last stragglers, who are counted in the evidence as they are.
    """
    number = rollout.current_stage
    stage = rollout.stages[number - 1]
    here = facts.of(number)
    if not here.complete and stage.gate is not GateKind.EVIDENCE:
        return Cause(Code.WAITS_FRAMES, {"stage": number, "waiting": here.frames - here.settled, "frames": here.frames})
    left = _dwell_left(stage, now)
    if left > timedelta(0):
        return Cause(Code.WAITS_DWELL, {"stage": number, "hours": math.ceil(left / timedelta(hours=1))})
    cause = GATES[stage.gate](rollout, number, facts, now)
    if cause is None and rollout.benefit is not None and _asks_for_benefit(rollout, number):
        look = facts.look_at(number)
        if look is None or look.stale or not look.benefit:
            return Cause(Code.WAITS_BENEFIT, {"stage": number, "metric": rollout.benefit})
    return cause


def _asks_for_benefit(rollout: "Rollout", number: int) -> bool:
    """Not the first stage, which is too small to show any, unless no other is there; nor the last, which nothing
    follows."""
    return min(2, len(rollout.stages) - 1) <= number < len(rollout.stages)


def _dwell_left(stage: "Stage", now: datetime) -> timedelta:
    if stage.opened_at is None:
        return timedelta(0)
    return stage.opened_at + timedelta(hours=stage.dwell_h) - now


def _committed(_rollout: "Rollout", _number: int, _facts: Facts, _now: datetime) -> Cause | None:
    return None


def _manual(rollout: "Rollout", number: int, _facts: Facts, _now: datetime) -> Cause | None:
    # After the last stage there is nothing to advance to, so nobody could let the rollout end.
    return Cause(Code.WAITS_PERSON, {"stage": number}) if number < len(rollout.stages) else None


def _evidence(_rollout: "Rollout", number: int, facts: Facts, now: datetime) -> Cause | None:
    look = facts.look_at(number)
    if look is None:
        return Cause(Code.WAITS_LOOK, {"stage": number})
    if look.stale:
        return Cause(
            Code.WAITS_FRESH_LOOK, {"stage": number, "hours": math.floor((now - look.at) / timedelta(hours=1))}
        )
    if look.decision is Decision.PROMOTE:
        return None
    return Cause(Code.WAITS_EVIDENCE, {"stage": number, "why": ", ".join((look.reason, *look.metrics))})


GATES: dict[GateKind, Gate] = {
    GateKind.COMMITTED: _committed,
    GateKind.MANUAL: _manual,
    GateKind.EVIDENCE: _evidence,
}
