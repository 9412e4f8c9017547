"""What is simulated: fleets, releases, and how many rollouts of each, in a full run and in a quick one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.canary.world import FREQUENT, HARDER, Effect, Model
from ota.domain import plan
from ota.domain.analysis.policy import SMALL_FLEET_STAGES, STAGES, Stage


@dataclass(frozen=True, slots=True)
class Scenario:
    """``harmful``: nobody may promote it. ``margin``: exactly on a margin of the last tested stage. With a ``holdback``
    the rollout goes on until everybody else was watched against it; otherwise it ends when everybody may have it."""

    name: str
    words: str
    model: Model
    effect: Effect
    runs: int
    quick: int
    stages: Sequence[Stage] = STAGES
    holdback: float = 0.0
    harmful: bool = False
    margin: bool = False


HOLDBACK = plan.by_evidence("standard").holdback
FLEET = Model()
DROP = Effect(completion=-0.04)
SCENARIOS = (
    Scenario("no_effect", "a release that does nothing", FLEET, Effect(), 4000, 120),
    Scenario("harder", "the same, in a fleet that is harder to judge", HARDER, Effect(), 600, 40),
    Scenario("watched", "nothing, and a week against the holdback", FLEET, Effect(), 600, 20, holdback=HOLDBACK),
    Scenario("completion", "completion 78 -> 74 %", FLEET, DROP, 200, 30, harmful=True),
    Scenario(
        "completion_part",
        "the same, all in 15 % of frames",
        FLEET,
        replace(DROP, share=0.15),
        150,
        15,
        harmful=True,
    ),
    Scenario("power", "+0.2 W", FLEET, Effect(power=0.2), 200, 20, harmful=True),
    Scenario("complaints", "three times as many complaints", FLEET, Effect(complaints=3.0), 200, 30, harmful=True),
    Scenario("bricked", "a fifth of canaries break", FLEET, Effect(broken=0.2), 150, 10, harmful=True),
    Scenario("silent", "a fifth of canaries fall silent", FLEET, Effect(silent=0.2), 150, 10, harmful=True),
    Scenario("margin_completion", "exactly -2 points", FLEET, Effect(completion=-0.02), 900, 20, margin=True),
    Scenario(
        "margin_complaints", "exactly twice as many complaints", FLEET, Effect(complaints=2.0), 2000, 20, margin=True
    ),
    Scenario("margin_power", "exactly +0.05 W", FLEET, Effect(power=0.05), 900, 20, margin=True),
    Scenario(
        "fix", "half as many complaints, completion +1 point", FLEET, Effect(completion=0.01, complaints=0.5), 150, 10
    ),
    Scenario("no_effect_10k", "10,000 frames, nothing", replace(FLEET, frames=10_000), Effect(), 80, 5),
    Scenario("small_1000", "1,000 frames, nothing", replace(FLEET, frames=1000), Effect(), 100, 8, SMALL_FLEET_STAGES),
    Scenario(
        "small_watched",
        "1,000 frames, nothing, and a week against the holdback",
        replace(FLEET, frames=1000),
        Effect(),
        200,
        8,
        SMALL_FLEET_STAGES,
        HOLDBACK,
    ),
    Scenario("small_600", "600 frames, nothing", replace(FLEET, frames=600), Effect(), 100, 8, SMALL_FLEET_STAGES),
    Scenario("frequent", "nothing, where twice as many complain", FREQUENT, Effect(), 150, 10),
    Scenario(
        "frequent_complaints",
        "three times as many complaints, where twice as many complain",
        FREQUENT,
        Effect(complaints=3.0),
        150,
        10,
        harmful=True,
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
