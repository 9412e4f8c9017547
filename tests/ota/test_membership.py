"""Whose frames are whose: newcomers, rollouts that outrank or supersede others, pinned frames."""

import datetime as dt
from typing import Any

import pytest

from fleet.models import AuditEntry, Frame, FrameGroup
from ota.domain.plan import Plan, StagePlan, of_shares
from ota.models import DesiredState, Pin, Release, Rollout
from ota.services import director, membership, pins, rollouts
from tests.ota.world import Enrol, commit, offered, report, report_all

pytestmark = pytest.mark.django_db

NOON = dt.datetime(2026, 12, 1, 12, 0, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Always the same households in the same stages; groups are looked at at every tick."""
    monkeypatch.setattr(membership, "draw_salt", lambda group, shares: "b" * 32)
    monkeypatch.setattr(membership, "ENLIST_EVERY", dt.timedelta(0))


@pytest.fixture
def everybody(db: None) -> FrameGroup:
    return FrameGroup.objects.create(name="all", query="")


def plan(*shares: float, **fields: Any) -> Plan:
    return Plan(stages=of_shares(shares or (1.0,)).stages, **fields)


def tick(rollout: Rollout, now: dt.datetime | None = None) -> Rollout:
    rollouts.tick(rollout.pk, now)
    rollout.refresh_from_db()
    return rollout


def do(rollout: Rollout, kind: str) -> Rollout:
    rollout.refresh_from_db()
    return rollouts.command(rollout.pk, kind, str(rollout.revision), "li", "because")


def succeed(rollout: Rollout) -> Rollout:
    for _ in range(8):
        tick(rollout)
        commit(rollout)
    assert tick(rollout).state == "succeeded"
    return rollout


def in_stages(rollout: Rollout) -> set[str]:
    return set(rollout.deployments.filter(stage__isnull=False).values_list("frame_id", flat=True))


def wanted(release: Release) -> set[str]:
    return set(DesiredState.objects.filter(release=release).values_list("frame_id", flat=True))


# --- newcomers --------------------------------------------------------------------------------------------------------


def test_newcomers_enter_the_open_stage_by_their_households_number_and_controls_stay_controls(
    release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(30)
    rollout = tick(rollouts.start(release_1_1, zh, plan(0.3, 1.0), "li", ""))
    control = rollout.deployments.filter(arm="control")[0].frame.household
    (sibling,) = frames(1, "sibling")
    Frame.objects.filter(pk=sibling).update(household=control)
    newcomers = frames(30, "new")

    tick(rollout)

    rows = {row.frame_id: row for row in rollout.deployments.filter(frame__in=[*newcomers, sibling])}
    assert rows.keys() == {*newcomers, sibling}
    assert (rows[sibling].arm, rows[sibling].state) == ("control", "pending")
    assert {row.state for row in rows.values() if row.arm == "canary"} == {"offered"}
    assert {row.state for row in rows.values() if row.arm == "control"} == {"pending"}


def test_the_group_is_looked_at_once_a_minute(
    release_1_1: Release, zh: FrameGroup, frames: Enrol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "ENLIST_EVERY", dt.timedelta(minutes=1))
    frames(3)
    rollout = tick(rollouts.start(release_1_1, zh, [1.0], "li", ""))
    frames(2, "new")
    assert tick(rollout).deployments.count() == 3
    assert rollout.enlisted_at is not None
    Rollout.objects.update(enlisted_at=rollout.enlisted_at - dt.timedelta(minutes=1))
    assert tick(rollout).deployments.count() == 5


def test_who_joins_after_success_gets_the_groups_newest_release(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, everybody: FrameGroup, frames: Enrol
) -> None:
    frames(2)
    general = succeed(rollouts.start(release_1_0, everybody, [1.0], "li", ""))
    special = succeed(rollouts.start(release_1_1, zh, [1.0], "li", ""))
    (mandarin,), (english,) = frames(1, "new-zh", "zh"), frames(1, "new-en", "en")

    assert rollouts.tick_all() == 2

    assert (mandarin in wanted(release_1_1), english in wanted(release_1_0)) == (True, True)
    assert {row.frame_id for row in offered(special)} >= {mandarin}
    assert mandarin not in in_stages(general)
    special.refresh_from_db()
    assert (special.state, special.ended_at is not None) == ("succeeded", True)
    assert rollouts.tick_all() == 0


def test_a_newer_success_or_a_rollback_ends_an_older_ones_newcomers(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(2)
    first = succeed(rollouts.start(release_1_0, zh, [1.0], "li", ""))
    second = succeed(rollouts.start(release_1_1, zh, [1.0], "li", ""))
    (one,) = frames(1, "one")
    rollouts.tick_all()
    assert (one in in_stages(first), one in in_stages(second)) == (False, True)
    do(second, "rollback")
    (two,) = frames(1, "two")
    rollouts.tick_all()
    assert two in wanted(release_1_0)


def test_a_frame_that_leaves_the_group_before_its_offer_leaves_and_may_come_back(
    release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(20)
    rollout = tick(rollouts.start(release_1_1, zh, plan(0.3, 1.0), "li", ""))
    waiting = rollout.deployments.filter(stage=2)[0]
    Frame.objects.filter(pk=waiting.frame_id).update(locale="en")
    tick(rollout)
    waiting.refresh_from_db()
    assert (waiting.stage, waiting.left_at is not None) == (None, True)
    Frame.objects.filter(pk=waiting.frame_id).update(locale="zh")
    tick(rollout)
    waiting.refresh_from_db()
    assert (waiting.stage, waiting.left_at) == (2, None)


# --- several rollouts -------------------------------------------------------------------------------------------------


def test_a_frame_goes_to_the_rollout_of_higher_priority_unless_it_was_offered_something(
    release_1_1: Release, release_1_2: Release, zh: FrameGroup, everybody: FrameGroup, frames: Enrol
) -> None:
    ids = frames(30)
    lower = tick(rollouts.start(release_1_1, everybody, plan(0.3, 1.0), "li", ""))
    begun = {row.frame_id for row in offered(lower)}
    higher = tick(rollouts.start(release_1_2, zh, plan(priority=5), "li", ""))
    assert in_stages(lower) == begun
    assert in_stages(higher) == set(ids) - begun == wanted(release_1_2)

    succeed(lower)
    succeed(higher)
    assert in_stages(higher) == set(ids), "what the other rollout had comes over when that has ended"
    assert wanted(release_1_2) == set(ids)


def test_a_lower_priority_gets_what_is_left_and_never_takes_back(
    release_1_1: Release, release_1_2: Release, zh: FrameGroup, everybody: FrameGroup, frames: Enrol
) -> None:
    mandarin, english = set(frames(10)), set(frames(10, "en", "en"))
    higher = rollouts.start(release_1_2, zh, plan(0.5, 1.0, priority=5), "li", "")
    lower = rollouts.start(release_1_1, everybody, [1.0], "li", "")
    rollouts.tick_all()
    assert (in_stages(higher), in_stages(lower)) == (mandarin, english)
    succeed(higher)
    succeed(lower)
    rollouts.tick_all()
    assert (wanted(release_1_2), wanted(release_1_1)) == (mandarin, english)


def test_overlapping_rollouts_of_one_priority_are_refused_and_so_are_those_with_nothing_left(
    release_1_1: Release, zh: FrameGroup, everybody: FrameGroup, frames: Enrol
) -> None:
    frames(5)
    first = rollouts.start(release_1_1, everybody, plan(priority=1), "li", "")
    with pytest.raises(rollouts.NotAllowed, match=rf"Rollout {first.pk} .* is under way on frames"):
        rollouts.start(release_1_1, zh, plan(priority=1), "li", "")
    with pytest.raises(rollouts.NotAllowed, match="None of the 5 frames of the group zh can take part now"):
        rollouts.start(release_1_1, zh, [1.0], "li", "")


def test_superseding_ends_the_older_rollout_and_no_frame_returns_to_what_was_half_delivered(
    release_1_0: Release, release_1_1: Release, release_1_2: Release, zh: FrameGroup, frames: Enrol
) -> None:
    ids = frames(20)
    director.set_desired(ids[:10], release_1_0)
    report_all(ids, "committed", release_1_0.digest)
    older = tick(rollouts.start(release_1_1, zh, plan(0.5, 1.0), "li", ""))
    committed, trying, *rest = offered(older)
    report(committed.frame_id, "committed", release_1_1.digest, desired_version=committed.desired_version)
    for row in (trying, *rest):  # probation: it plays already, and is not proved
        report(
            row.frame_id, "trial", release_1_1.digest, target=release_1_1.digest, desired_version=row.desired_version
        )

    newer = rollouts.start(release_1_2, zh, plan(0.2, 1.0), "li", "better", supersede=[older.pk])

    older.refresh_from_db()
    assert (older.state, older.superseded_by_id) == ("aborted", newer.pk)
    assert older.reason == f"Rollout {newer.pk} has taken the place of this one."
    assert older.events.latest("id").detail["cause"]["code"] == "superseded"
    assert wanted(release_1_1) == {committed.frame_id}, "who has committed keeps it until its turn"
    assert in_stages(newer) == set(ids)
    succeed(newer)
    formers = dict(newer.deployments.values_list("frame_id", "former_release__version"))
    assert formers.pop(committed.frame_id) == "1.1"
    assert set(formers.values()) == {"1.0"}


def test_a_superseding_rollout_that_waits_for_approval_or_its_hour_ends_nothing_before_it_begins(
    release_1_1: Release, release_1_2: Release, zh: FrameGroup, frames: Enrol, settings: Any
) -> None:
    ids = set(frames(10))
    older = tick(rollouts.start(release_1_1, zh, plan(0.5, 1.0), "li", "", NOON), NOON)
    settings.FRAMEFLEET_TWO_PERSON = True
    at = NOON + dt.timedelta(hours=2)
    newer = rollouts.start(release_1_2, zh, plan(start_at=at), "li", "", NOON, supersede=[older.pk])
    tick(older, NOON)
    assert (newer.state, older.state, in_stages(older)) == ("proposed", "running", ids)
    rollouts.command(newer.pk, "approve", str(newer.revision), "wang", "", NOON)
    tick(newer, NOON)
    older.refresh_from_db()
    assert (newer.state, older.state) == ("scheduled", "running")
    tick(newer, at)
    older.refresh_from_db()
    assert (newer.state, older.state, in_stages(newer)) == ("running", "aborted", ids)


def test_only_what_is_under_way_can_be_superseded(release_1_1: Release, zh: FrameGroup, frames: Enrol) -> None:
    frames(2)
    ended = do(rollouts.start(release_1_1, zh, [1.0], "li", ""), "abort")
    for one in (ended.pk, 10**9):
        with pytest.raises(rollouts.NotAllowed, match=f"Rollout {one} is .*, so nothing can take its place"):
            rollouts.start(release_1_1, zh, [1.0], "li", "", supersede=[one])
    assert Rollout.objects.count() == 1


def test_a_finished_rollout_takes_no_frames_from_one_under_way(
    release_1_1: Release, release_1_2: Release, zh: FrameGroup, everybody: FrameGroup, frames: Enrol
) -> None:
    frames(6)
    first = succeed(rollouts.start(release_1_1, zh, plan(priority=5), "li", ""))
    second = tick(rollouts.start(release_1_2, everybody, plan(0.5, 1.0), "li", ""))
    waiting = in_stages(second)
    assert len(waiting) == 6
    tick(first)
    assert in_stages(second) == waiting


# --- pins -------------------------------------------------------------------------------------------------------------


def test_a_pinned_frame_is_left_out_and_comes_back_when_it_is_unpinned(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    ids = frames(4)
    director.set_desired(ids, release_1_0)
    rollout = tick(rollouts.start(release_1_1, zh, [1.0], "li", ""))
    mine = offered(rollout)[0]
    made = pins.pin(mine.frame_id, None, "the showroom", "li")
    mine.refresh_from_db()
    assert (mine.state, mine.stage, made.by) == ("pending", None, "li")
    assert wanted(release_1_0) == {mine.frame_id}, "what it was offered is taken back"
    commit(rollout)
    assert tick(rollout).state == "succeeded", "no stage waits for it"
    do(rollout, "rollback")
    assert wanted(release_1_1) == set()

    pins.unpin(mine.frame_id, "the fair is over", "li")
    assert not Pin.objects.exists()
    again = tick(rollouts.start(release_1_1, zh, [1.0], "li", ""))
    assert mine.frame_id in in_stages(again)
    entries = AuditEntry.objects.filter(subject=mine.frame_id).order_by("id").values_list("action", "actor")
    assert list(entries) == [("frame.pin", "li"), ("frame.unpin", "li")]


def test_an_unpinned_frame_is_offered_the_release_of_the_rollout_it_was_in(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(3)
    rollout = tick(rollouts.start(release_1_1, zh, [1.0], "li", ""))
    mine = offered(rollout)[0]
    pins.pin(mine.frame_id, release_1_0, "the showroom", "li")
    assert wanted(release_1_0) == {mine.frame_id}
    tick(rollout)
    assert wanted(release_1_0) == {mine.frame_id}
    pins.unpin(mine.frame_id, "", "li")
    tick(rollout)
    mine.refresh_from_db()
    assert (mine.state, mine.stage, mine.former_release) == ("offered", 1, release_1_0)


def test_a_dark_frame_that_is_pinned_finds_no_offer_when_it_wakes(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    director.set_desired(frames(3), release_1_0)
    rollout = tick(rollouts.start(release_1_1, zh, [1.0], "li", "", NOON), NOON)
    silent, *rest = offered(rollout)
    for row in rest:
        report(row.frame_id, "committed", release_1_1.digest, desired_version=row.desired_version)
    tick(rollout, NOON + dt.timedelta(hours=25))
    silent.refresh_from_db()
    assert silent.state == "dark"
    pins.pin(silent.frame_id, None, "its owners are away", "li")
    assert wanted(release_1_0) == {silent.frame_id}


def test_a_rollback_leaves_pinned_frames_alone(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    ids = frames(3)
    director.set_desired(ids, release_1_0)
    rollout = succeed(rollouts.start(release_1_1, zh, [1.0], "li", ""))
    pins.pin(ids[0], release_1_1, "the showroom", "li")
    do(rollout, "rollback")
    assert wanted(release_1_1) == {ids[0]}
    assert wanted(release_1_0) == set(ids[1:])


def test_pins_need_a_reason_and_a_frame_in_service(frames: Enrol) -> None:
    (frame,) = frames(1)
    with pytest.raises(rollouts.NotAllowed, match="say why"):
        pins.pin(frame, None, " ", "li")
    with pytest.raises(rollouts.NotAllowed, match="There is no frame ghost in service"):
        pins.pin("ghost", None, "why not", "li")
    with pytest.raises(rollouts.NotAllowed, match=f"Frame {frame} is not pinned"):
        pins.unpin(frame, "", "li")


def test_a_draft_keeps_what_it_supersedes_until_it_is_started(
    release_1_1: Release, release_1_2: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(4)
    older = tick(rollouts.start(release_1_1, zh, [1.0], "li", ""))
    newer = rollouts.draft(release_1_2, zh, Plan(stages=[StagePlan(share=1.0)]), "li", "", supersede=[older.pk])
    assert tick(older).state == "running"
    do(newer, "start")
    older.refresh_from_db()
    assert (older.state, older.superseded_by_id) == ("aborted", newer.pk)
