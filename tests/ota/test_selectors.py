"""What the rollout's page reads: right numbers, few queries, whatever the size of the group."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet.models import FrameDay, FrameGroup
from ota.models import Release, Rollout
from ota.selectors import rollout_detail, rollouts, rollouts_of_frame
from ota.services import membership
from ota.services import rollouts as services
from tests.ota.world import Enrol, commit, offered

pytestmark = pytest.mark.django_db

DAY = dt.date(2026, 3, 1)


@pytest.fixture
def rollout(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol, monkeypatch: pytest.MonkeyPatch
) -> Rollout:
    monkeypatch.setattr(membership, "draw_salt", lambda group, shares: "b" * 32)
    frames(80, "zh", "zh")
    rollout = services.start(release_1_1, zh, [0.05, 0.25, 1.0], "li", "")
    services.tick(rollout.pk)
    return Rollout.objects.select_related("release", "group").get(pk=rollout.pk)


def day(frame_id: str, release: str, *, at: dt.date = DAY, **figures: Any) -> FrameDay:
    return FrameDay.objects.create(frame_id=frame_id, day=at, release=release, **figures)


def test_stages_count_their_frames_by_state(rollout: Rollout) -> None:
    commit(rollout)
    services.tick(rollout.pk)
    detail = rollout_detail(rollout)
    first, second, third = detail.stages
    assert (first.frames, first.committed, first.completed_at is not None) == (3, 3, True)
    assert (second.frames, second.in_flight, second.counts["offered"]) == (12, 12, 12)
    assert (third.frames, third.counts["pending"], third.opened_at) == (65, 65, None)
    assert (detail.frames, detail.committed, detail.in_flight, detail.pending) == (80, 3, 12, 65)
    assert detail.simulated == 80
    assert set(first.counts) == {
        *("pending", "offered", "downloading", "verifying", "staged", "trial"),
        *("committed", "reverted", "failed", "dark", "returning", "returned"),
    }


def test_metrics_are_sums_by_arm_and_release(rollout: Rollout, release_1_0: Release, release_1_1: Release) -> None:
    canary = list(rollout.deployments.filter(arm="canary").values_list("frame_id", flat=True))
    control = list(rollout.deployments.filter(arm="control").values_list("frame_id", flat=True))
    for frame in canary[:2]:
        day(frame, release_1_0.digest, playbacks=10, completed=7, complaints=1, power_sum_w=9.6, power_samples=2)
        day(frame, release_1_1.digest, at=DAY + dt.timedelta(1), playbacks=4, completed=4)
    day(control[0], release_1_0.digest, playbacks=0, power_sum_w=5.0, power_samples=1)
    day(control[1], "f" * 64, playbacks=2, completed=1)
    day(canary[0], release_1_0.digest, at=DAY - dt.timedelta(40), playbacks=99)  # too long ago

    rows = {(row.arm, row.release_name): row for row in rollout_detail(rollout).metrics}
    old = rows["canary", "talking-portrait 1.0"]
    assert (old.frames, old.playbacks, old.complaints) == (2, 20, 2)
    assert old.completion_rate == pytest.approx(0.7)
    assert old.complaint_rate == pytest.approx(0.1)
    assert old.power_w == pytest.approx(4.8)
    new = rows["canary", "talking-portrait 1.1"]
    assert (new.completion_rate, new.complaint_rate, new.power_w) == (1.0, 0.0, None)
    idle = rows["control", "talking-portrait 1.0"]
    assert (idle.completion_rate, idle.complaint_rate, idle.power_w) == (None, None, 5.0)
    assert rows["control", ""].playbacks == 2

    daily = rollout_detail(rollout).daily
    assert [(row.day, row.arm, row.playbacks) for row in daily] == [
        (DAY, "canary", 20),
        (DAY, "control", 2),
        (DAY + dt.timedelta(1), "canary", 8),
    ]


def test_an_earlier_rollout_of_the_same_frames_counts_nothing_twice(
    rollout: Rollout, release_1_0: Release, release_1_1: Release, zh: FrameGroup
) -> None:
    services.command(rollout.pk, "abort", str(rollout.revision), "li", "")
    second = services.start(release_1_1, zh, [0.5, 1.0], "li", "")
    frame = second.deployments.all()[0].frame_id
    day(frame, release_1_0.digest, playbacks=10, completed=5)
    for which in (rollout, second):
        assert sum(row.playbacks for row in rollout_detail(which).metrics) == 10


def test_a_group_outside_is_not_counted(rollout: Rollout, release_1_0: Release, frames: Enrol) -> None:
    (stranger,) = frames(1, "en", "en")
    day(stranger, release_1_0.digest, playbacks=10)
    assert rollout_detail(rollout).metrics == ()


def test_the_number_of_queries_does_not_grow_with_the_group(
    rollout: Rollout, frames: Enrol, release_1_1: Release
) -> None:
    with CaptureQueriesContext(
        connection,
    ) as small:
        rollout_detail(rollout)
    group = FrameGroup.objects.create(name="fr", query="locale=fr")
    frames(500, "fr", "fr")
    large = services.start(release_1_1, group, [0.5, 1.0], "li", "")
    services.tick(large.pk)
    commit(large)
    large = Rollout.objects.select_related("release", "group").get(pk=large.pk)
    with CaptureQueriesContext(connection) as big:
        detail = rollout_detail(large)
    assert detail.frames == 500
    assert len(big) == len(small) <= 22
    with CaptureQueriesContext(connection) as listed:
        assert len(rollouts()) == 2
    assert len(listed) <= 3


def test_a_frames_rollouts(rollout: Rollout) -> None:
    frame = offered(rollout)[0].frame_id
    (row,) = rollouts_of_frame(frame)
    assert (row.rollout_id, row.state, str(row.rollout.release)) == (rollout.pk, "offered", "talking-portrait 1.1")
