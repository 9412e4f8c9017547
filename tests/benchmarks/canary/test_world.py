"""Simulated people have the properties that the assumptions name."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.canary.world import HARDER, Model, World
from ota.domain.analysis.baseline import intraclass_correlation
from ota.domain.analysis.policy import COMPLETION, POWER, Policy

LARGE = Model(frames=20_000)


@pytest.fixture(scope="module")
def world() -> World:
    return World(LARGE, np.random.default_rng(1))


def test_activity_and_completion_are_as_assumed(world: World) -> None:
    past = world.history[COMPLETION]
    assert past.count.sum() / (28 * LARGE.frames) == pytest.approx(5.0, rel=0.02)
    assert past.total.sum() / past.count.sum() == pytest.approx(0.78, abs=0.005)
    assert intraclass_correlation(past, Policy()) == pytest.approx(0.10, abs=0.01)


def test_power_differs_between_frames(world: World) -> None:
    past = world.history[POWER]
    often = past.count > 50
    means = past.total[often] / past.count[often]
    assert means.mean() == pytest.approx(4.8, abs=0.02)
    assert means.std() == pytest.approx(0.4, rel=0.05)


def test_complaints_come_in_bursts_to_few(world: World) -> None:
    """0.15 % incidents of 5 playbacks in 90 days: 0.68 a frame; complaint-days are a few more, and most have none."""
    incidents = LARGE.incidents * 5 * 90
    assert incidents < world.history_complaints.mean() < 2 * incidents
    assert (world.history_complaints == 0).mean() > 0.6
    harder = World(replace(HARDER, frames=20_000), np.random.default_rng(2))
    assert harder.history_complaints.var() > world.history_complaints.var()


def test_an_incident_brings_two_complaints_on_average(world: World) -> None:
    brought = world.complaints(np.repeat([0, 1, 3], 20_000))
    assert brought[:20_000].sum() == 0
    assert brought[20_000:40_000].mean() == pytest.approx(2.0, rel=0.03)
    assert brought[40_000:].mean() == pytest.approx(6.0, rel=0.03)
    assert brought[20_000:40_000].min() == 1


def test_evenings_are_busy_and_time_ascends(world: World) -> None:
    day = world.playbacks(0)
    assert np.all(np.diff(day.hour) >= 0)
    assert (day.hour >= 18).mean() > 0.4
    assert (day.hour < 6).mean() < 0.06
