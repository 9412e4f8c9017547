"""The way back: who is told, when it is over, who cannot go; and releases for a season."""

import datetime as dt
from typing import Any

import pytest

from fleet.models import Frame, FrameGroup
from ota.domain import actions
from ota.domain import rollout as domain
from ota.domain.plan import Plan, of_shares
from ota.models import DesiredState, Release, Rollout
from ota.selectors import rollout_detail
from ota.services import director, membership, rollouts
from ota.services.facts import plan_of
from tests.ota.world import Enrol, commit, offered, report

pytestmark = pytest.mark.django_db

NOON = dt.datetime(2026, 12, 1, 12, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
EPIPHANY = NOON + 30 * DAY


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "draw_salt", lambda group, shares: "b" * 32)
    monkeypatch.setattr(membership, "ENLIST_EVERY", dt.timedelta(0))


def tick(rollout: Rollout, now: dt.datetime = NOON) -> Rollout:
    rollouts.tick(rollout.pk, now)
    rollout.refresh_from_db()
    return rollout


def do(rollout: Rollout, kind: str, now: dt.datetime = NOON) -> Rollout:
    rollout.refresh_from_db()
    return rollouts.command(rollout.pk, kind, str(rollout.revision), "li", "because", now)


def wanted(release: Release | None) -> set[str]:
    return set(DesiredState.objects.filter(release=release).values_list("frame_id", flat=True))


def states(rollout: Rollout) -> dict[str, str]:
    return dict(rollout.deployments.values_list("frame_id", "state"))


def back(frame_id: str, release: Release) -> None:
    """The frame has done as it was told last."""
    report(frame_id, "committed", release.digest, desired_version=DesiredState.objects.get(pk=frame_id).version)


def heard(now: dt.datetime, *frame_ids: str) -> None:
    Frame.objects.filter(pk__in=frame_ids).update(last_seen=now)


def replayed(rollout: Rollout) -> domain.RolloutState:
    """The state that the trail alone gives."""
    trail = [(event.detail["action"], event.at) for event in rollout.events.all() if "action" in event.detail]
    return domain.replay(
        domain.planned(plan_of(rollout)), [(actions.from_detail(kept), at) for kept, at in trail]
    ).state


@pytest.fixture
def updated(release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol) -> Rollout:
    """Twelve frames of which the first stage's run the release; the others are controls."""
    director.set_desired(frames(12), release_1_0)
    rollout = tick(rollouts.start(release_1_1, zh, [0.5, 1.0], "li", "", NOON))
    rollouts.command(rollout.pk, "pause", str(rollout.revision), "li", "", NOON)
    commit(rollout)
    return rollout


def test_a_rollback_is_over_when_all_that_were_told_are_back(updated: Rollout, release_1_0: Release) -> None:
    told = {row.frame_id for row in offered(updated)}
    assert do(updated, "rollback").state == "rolling_back"
    heard(NOON, *told)
    first, *rest = sorted(told)
    for frame in rest:
        back(frame, release_1_0)
    assert tick(updated).state == "rolling_back"
    report(first, "downloading", updated.release_id, target=release_1_0.digest, desired_version=99)
    assert tick(updated).state == "rolling_back", "it still plays the release"
    back(first, release_1_0)
    assert tick(updated).state == "rolled_back"
    assert {frame for frame, state in states(updated).items() if state == "returned"} == told
    assert updated.events.latest("id").detail["frames"] == len(told)
    assert replayed(updated) == "rolled_back"


def test_silent_frames_hold_no_rollback_up_and_return_when_they_wake(updated: Rollout, release_1_0: Release) -> None:
    silent, *rest = sorted(row.frame_id for row in offered(updated))
    do(updated, "rollback")
    for frame in rest:
        back(frame, release_1_0)
    heard(NOON, silent)
    assert tick(updated, NOON + DAY - dt.timedelta(minutes=1)).state == "rolling_back"
    assert tick(updated, NOON + DAY + dt.timedelta(minutes=1)).state == "rolled_back"
    assert states(updated)[silent] == "returning"
    assert updated.events.latest("id").detail["silent"] == 1
    back(silent, release_1_0)
    assert states(updated)[silent] == "returned"


@pytest.mark.parametrize("before", ["succeeded", "aborted"])
def test_what_has_ended_can_be_rolled_back(updated: Rollout, release_1_0: Release, before: str) -> None:
    if before == "aborted":
        do(updated, "abort")
    else:
        do(updated, "resume")
        for _ in range(3):
            tick(updated)
            commit(updated)
        assert tick(updated).state == "succeeded"
    told = {row.frame_id for row in offered(updated)}
    do(updated, "rollback")
    assert wanted(updated.release) == set()
    for frame in told:
        back(frame, release_1_0)
    assert tick(updated).state == "rolled_back"
    assert replayed(updated) == "rolled_back"


def test_after_an_abort_no_frame_is_in_flight(updated: Rollout) -> None:
    committed = rollout_detail(updated).committed
    do(updated, "resume")
    do(updated, "advance")
    assert rollout_detail(updated).in_flight > 0
    do(updated, "abort")
    updated.refresh_from_db()
    detail = rollout_detail(updated)
    assert [stage.in_flight for stage in detail.stages] == [0, 0]
    assert detail.committed == committed


def test_a_frame_that_nobody_knows_the_past_of_stays_and_is_listed(
    release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    committed, trying = frames(2)
    rollout = tick(rollouts.start(release_1_1, zh, [1.0], "li", "", NOON))
    report(committed, "committed", release_1_1.digest, desired_version=1)
    report(trying, "trial", release_1_1.digest, target=release_1_1.digest, desired_version=1)
    do(rollout, "rollback")
    assert rollout.events.latest("id").detail["without_former_release"] == 1
    heard(NOON, committed, trying)
    # It had proved the release before it heard.
    report(trying, "idle", release_1_1.digest, desired_version=2)
    assert tick(rollout).state == "rolled_back"
    assert dict(rollout.deployments.values_list("frame_id", "reason")) == dict.fromkeys(
        (committed, trying), "no_former_release"
    )


# --- a season ---------------------------------------------------------------------------------------------------------


def season(release: Release, group: FrameGroup, **fields: Any) -> Rollout:
    plan = Plan(stages=of_shares([1.0]).stages, end_at=EPIPHANY, **fields)
    rollout = tick(rollouts.start(release, group, plan, "li", "carols", NOON))
    commit(rollout)
    return rollout


def test_when_the_season_is_over_all_frames_return_those_that_joined_late_too(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    ids = frames(3)
    director.set_desired(ids, release_1_0)
    rollout = tick(season(release_1_1, zh))
    assert rollout.state == "succeeded"
    late, unknown, silent = frames(3, "late")
    director.set_desired([late, silent], release_1_0)
    rollouts.tick_all(NOON + DAY)
    for frame in (late, unknown):
        report(frame, "committed", release_1_1.digest, desired_version=99)
    assert wanted(release_1_1) == {*ids, late, unknown, silent}

    rollouts.tick_all(EPIPHANY - dt.timedelta(minutes=1))
    assert tick(rollout, EPIPHANY - dt.timedelta(minutes=1)).state == "succeeded"
    rollouts.tick_all(EPIPHANY)

    rollout.refresh_from_db()
    assert rollout.state == "rolling_back"
    assert rollout.events.latest("id").detail["cause"]["code"] == "season_over"
    assert wanted(release_1_0) == {*ids, late, silent}
    assert states(rollout)[unknown] == "committed"
    assert rollout.deployments.get(reason="no_former_release").frame_id == unknown
    for frame in (*ids, late):
        back(frame, release_1_0)
    rollouts.tick_all(EPIPHANY + 2 * DAY)
    rollout.refresh_from_db()
    assert rollout.state == "rolled_back"
    (newcomer,) = frames(1, "newcomer")
    rollouts.tick_all(EPIPHANY + 3 * DAY)
    assert newcomer not in states(rollout)


@pytest.mark.parametrize("kind", [None, "pause"])
def test_a_season_ends_what_is_still_under_way(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol, kind: str | None
) -> None:
    director.set_desired(frames(4), release_1_0)
    rollout = season(release_1_1, zh, at_once=2)
    if kind is not None:
        do(rollout, kind)
    rollouts.tick_all(EPIPHANY)
    rollout.refresh_from_db()
    assert rollout.state == "rolling_back"
    assert wanted(release_1_1) == set()


def test_a_season_ends_for_those_that_committed_before_it_was_aborted(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    director.set_desired(frames(4), release_1_0)
    rollout = season(release_1_1, zh, at_once=2)
    do(rollout, "abort")
    assert len(wanted(release_1_1)) == 2
    rollouts.tick_all(EPIPHANY)
    rollout.refresh_from_db()
    assert rollout.state == "rolling_back"
    assert wanted(release_1_1) == set()
    assert replayed(rollout) == "rolling_back"


def test_nothing_goes_back_to_a_release_that_has_been_taken_back_itself(
    release_1_0: Release, release_1_1: Release, release_1_2: Release, zh: FrameGroup, frames: Enrol
) -> None:
    ids = frames(3)
    director.set_desired(ids, release_1_0)
    tick(season(release_1_1, zh))
    later = tick(rollouts.start(release_1_2, zh, [1.0], "li", "better carols", NOON + DAY), NOON + DAY)
    commit(later)
    tick(later, NOON + DAY)
    rollouts.tick_all(EPIPHANY)
    assert wanted(release_1_2) == set(ids), "the later one has them"
    do(later, "rollback", EPIPHANY + DAY)
    assert wanted(release_1_0) == set(ids)


def test_a_season_leaves_alone_what_a_later_rollout_has_given(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    ids = frames(3)
    director.set_desired(ids, release_1_0)
    rollout = tick(season(release_1_1, zh))
    only = FrameGroup.objects.create(name="one", query=f"id={ids[0]}")
    later = tick(rollouts.start(release_1_1, only, [1.0], "li", "it stays", NOON + DAY), NOON + DAY)
    assert {row.frame_id for row in offered(later)} == {ids[0]}
    rollouts.tick_all(EPIPHANY)
    assert wanted(release_1_1) == {ids[0]}
    assert states(rollout)[ids[0]] == "committed"
