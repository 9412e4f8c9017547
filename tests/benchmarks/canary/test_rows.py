"""A rollout through rows is judged as it is in memory."""

from dataclasses import replace

import pytest

from benchmarks.canary.rows import same_run
from benchmarks.canary.scenarios import BY_NAME
from ota.domain.analysis.policy import POWER, Stage

STAGES = (Stage(0.1, dwell_h=12), Stage(0.3, dwell_h=24, margins={POWER: 0.5}), Stage(1.0, dwell_h=24))
"""The second opens at noon: what its frames did that morning lies in rows that do not count."""


@pytest.mark.slow
@pytest.mark.django_db
def test_verdicts_from_rows_and_from_memory_are_the_same() -> None:
    scenario = BY_NAME["no_effect"]
    model = replace(scenario.model, frames=400, silences=0.02, breakages=0.01, incidents=0.02)
    looks, differences = same_run(replace(scenario, model=model, stages=STAGES, holdback=0.1), 11, 1)
    assert looks >= 5
    assert differences == []
