"""A rollout over the real tables: stages open as the ones before them commit, and nobody else is touched."""

import datetime as dt

import pytest
from django.utils import timezone

from fleet.groups import frames_in
from fleet.models import AuditEntry, FrameGroup
from ota.domain.assignment import household_number
from ota.models import Deployment, DesiredState, Release, Rollout
from ota.selectors import rollout_detail
from ota.services import director, membership, rollouts
from protocol.errors import Reason
from protocol.messages import Failure, InstallState
from tests.ota.world import Enrol, commit, fail, offered, report, report_all

pytestmark = pytest.mark.django_db

STAGES = [0.05, 0.25, 1.0]
SALT = "b" * 32
SIZES = [3, 12, 65]


@pytest.fixture
def group_frames(frames: Enrol, release_1_0: Release) -> list[str]:
    """80 frames in the group and 40 outside, all meant to run 1.0 and running it."""
    inside, outside = frames(80, "zh", "zh"), frames(40, "en", "en")
    director.set_desired(inside + outside, release_1_0)
    report_all(inside + outside, "committed", release_1_0.digest)
    return inside


@pytest.fixture
def rollout(release_1_1: Release, zh: FrameGroup, group_frames: list[str], monkeypatch: pytest.MonkeyPatch) -> Rollout:
    """Always the same households in the same stages."""
    monkeypatch.setattr(membership, "draw_salt", lambda group, shares: SALT)
    return rollouts.start(release_1_1, zh, STAGES, "li", "Mandarin lips")


def tick(rollout: Rollout, now: dt.datetime | None = None) -> Rollout:
    rollouts.tick(rollout.pk, now)
    return Rollout.objects.select_related("release", "group").get(pk=rollout.pk)


def wanted(release: Release) -> set[str]:
    return set(DesiredState.objects.filter(release=release).values_list("frame_id", flat=True))


def do(rollout: Rollout, kind: str, reason: str = "because") -> Rollout:
    rollout.refresh_from_db()
    return rollouts.command(rollout.pk, kind, str(rollout.revision), "li", reason)


def run_to_end(rollout: Rollout) -> list[int]:
    """Frames that were offered the release in each stage."""
    sizes = []
    for _ in range(20):
        rollout = tick(rollout)
        if rollout.state != "running":
            break
        if committed := commit(rollout):
            sizes.append(committed)
    return sizes


def test_each_stage_opens_when_the_one_before_has_committed(
    rollout: Rollout, release_1_1: Release, group_frames: list[str]
) -> None:
    sizes = run_to_end(rollout)

    rollout.refresh_from_db()
    assert rollout.state == "succeeded"
    assert sizes == SIZES
    assert wanted(release_1_1) == set(group_frames)
    assert [event.kind for event in rollout.events.all()] == [
        "started",
        "stage_opened",
        "stage_completed",
        "stage_opened",
        "stage_completed",
        "stage_opened",
        "stage_completed",
        "succeeded",
    ]


def test_a_stage_waits_for_its_last_frame(rollout: Rollout) -> None:
    rollout = tick(rollout)
    rows = offered(rollout)
    for row in rows[1:]:
        report(row.frame_id, "committed", rollout.release_id, desired_version=row.desired_version)
    report(rows[0].frame_id, "trial", None, target=rollout.release_id, desired_version=rows[0].desired_version)

    assert tick(rollout).current_stage == 1
    report(rows[0].frame_id, "committed", rollout.release_id, desired_version=rows[0].desired_version)
    assert tick(rollout).current_stage == 2


def test_frames_outside_the_group_never_change(rollout: Rollout, release_1_0: Release) -> None:
    before = dict(DesiredState.objects.filter(frame__locale="en").values_list("frame_id", "version"))
    run_to_end(rollout)
    do(rollout, "rollback")
    assert dict(DesiredState.objects.filter(frame__locale="en").values_list("frame_id", "version")) == before
    assert len(before) == 40


def test_ticking_again_changes_nothing(rollout: Rollout) -> None:
    tick(rollout)
    before = list(DesiredState.objects.order_by("frame_id").values_list("frame_id", "version"))
    assert not rollouts.tick(rollout.pk)
    assert rollouts.tick_all() == 0
    assert list(DesiredState.objects.order_by("frame_id").values_list("frame_id", "version")) == before


def test_a_frame_that_runs_the_release_already_has_committed_at_once_and_is_told_all_the_same(
    rollout: Rollout, release_1_1: Release, group_frames: list[str]
) -> None:
    report_all(group_frames, "idle", release_1_1.digest)
    for _ in range(4):
        rollout = tick(rollout)
    assert rollout.state == "succeeded"
    assert wanted(release_1_1) == set(group_frames)


def test_a_report_that_met_a_locked_row_is_caught_up_with(rollout: Rollout) -> None:
    rollout = tick(rollout)
    for row in offered(rollout):
        report(row.frame_id, "committed", rollout.release_id, only_stored=True)
    assert tick(rollout).current_stage == 2


EXPIRED = Failure(reason=Reason.EXPIRED, detail="DesiredState 7 has expired: sign it anew, or check the frame's clock.")
FORGED = Failure(reason=Reason.WRONG_SIGNATURE, detail="The DesiredState carries 0 of 1 signatures.")


@pytest.mark.parametrize("only_stored", [False, True])
def test_a_desired_state_refused_in_its_releases_name_gives_the_deployment_its_reason(
    rollout: Rollout, only_stored: bool
) -> None:
    rollout = tick(rollout)
    row = offered(rollout)[0]
    report(
        row.frame_id,
        "failed",
        None,
        target=rollout.release_id,
        desired_version=row.desired_version,
        failure=EXPIRED,
        only_stored=only_stored,
    )
    rollout = tick(rollout)
    row.refresh_from_db()
    assert (row.state, row.reason, row.detail) == ("failed", "expired", EXPIRED.detail)
    (group,) = rollout_detail(rollout).failures
    assert (group.reason, group.examples[0].detail) == ("expired", EXPIRED.detail)


@pytest.mark.parametrize("only_stored", [False, True])
@pytest.mark.parametrize("state", ["idle", "committed", "downloading"])
def test_a_forged_desired_state_fails_no_deployment(
    rollout: Rollout, release_1_0: Release, state: InstallState, only_stored: bool
) -> None:
    rollout = tick(rollout)
    for row in offered(rollout):
        report(
            row.frame_id,
            state,
            release_1_0.digest,
            desired_version=row.desired_version,
            failure=FORGED,
            only_stored=only_stored,
        )
    rollout = tick(rollout)
    assert rollout.state == "running"
    assert {row.state for row in offered(rollout)} == {"offered"}
    assert not rollout_detail(rollout).failures
    assert commit(rollout) == SIZES[0]
    assert tick(rollout).current_stage == 2


def test_too_many_failures_pause_the_rollout_and_say_so(rollout: Rollout) -> None:
    rollout = tick(rollout)
    commit(rollout)
    rollout = tick(rollout)
    rows = [row for row in offered(rollout) if row.state == "offered"]
    fail(rows[0])
    assert tick(rollout).state == "running"
    fail(rows[1])
    rollout = tick(rollout)

    assert rollout.state == "paused"
    assert rollout.reason.startswith(f"Stage 2: 2 of {len(rows)} frames failed or went back, more than the 1 allowed")
    detail = rollout_detail(rollout)
    (group,) = detail.failures
    assert (group.reason, group.frames) == ("disk_full", 2)
    assert group.examples[0].detail == "The disk is full: free some space."
    assert detail.events[-1].actor == "engine"


def test_after_resuming_over_failures_only_new_ones_count(rollout: Rollout) -> None:
    rollout = tick(rollout)
    commit(rollout)
    rollout = tick(rollout)
    first, second, third, *rest = [row for row in offered(rollout) if row.state == "offered"]
    fail(first)
    fail(second)
    rollout = tick(rollout)
    do(rollout, "resume", "both disks were known to be broken")
    assert tick(rollout).state == "running"
    fail(third)
    assert tick(rollout).state == "running"
    for row in rest:
        report(row.frame_id, "committed", rollout.release_id, desired_version=row.desired_version)
    assert tick(rollout).current_stage == 3


def test_a_stage_in_which_nobody_commits_pauses(rollout: Rollout) -> None:
    rollout = tick(rollout)
    later = timezone.now() + dt.timedelta(hours=25)
    rollout = tick(rollout, later)
    assert rollout_detail(rollout).dark == len(offered(rollout)) > 0
    assert rollout.state == "paused"
    assert "none of its" in rollout.reason
    do(rollout, "resume", "they are in a shipment")
    assert tick(rollout, later).current_stage == 2


def test_dark_frames_do_not_hold_a_stage_up_and_may_come_back(rollout: Rollout) -> None:
    rollout = tick(rollout)
    silent, *rest = offered(rollout)
    later = timezone.now() + dt.timedelta(hours=25)
    for row in rest:
        report(row.frame_id, "committed", rollout.release_id, desired_version=row.desired_version)
    rollout = tick(rollout, later)
    assert rollout.current_stage == 2
    report(silent.frame_id, "committed", rollout.release_id, desired_version=silent.desired_version)
    silent.refresh_from_db()
    assert silent.state == "committed"


def test_a_late_report_never_moves_a_deployment_back(rollout: Rollout) -> None:
    rollout = tick(rollout)
    row = offered(rollout)[0]
    commit(rollout)
    report(row.frame_id, "downloading", None, target=rollout.release_id, desired_version=row.desired_version)
    fail(row)
    row.refresh_from_db()
    assert row.state == "committed"


def test_the_failure_of_an_earlier_offer_is_not_held_against_this_one(rollout: Rollout) -> None:
    rollout = tick(rollout)
    row = offered(rollout)[0]
    report(row.frame_id, "failed", None, target=rollout.release_id, desired_version=row.desired_version - 1)
    row.refresh_from_db()
    assert row.state == "offered"


def test_a_double_click_cannot_skip_a_stage(rollout: Rollout) -> None:
    rollout = tick(rollout)
    seen = str(rollout.revision)
    rollouts.command(rollout.pk, "advance", seen, "li", "looks good")
    with pytest.raises(rollouts.Stale, match="moved on since you looked"):
        rollouts.command(rollout.pk, "advance", seen, "li", "looks good")
    rollout.refresh_from_db()
    assert rollout.current_stage == 2
    assert rollout.events.latest("id").kind == "advanced"
    assert AuditEntry.objects.filter(action="rollout.advanced", actor="li").count() == 1


def test_a_command_that_the_state_does_not_allow_says_what_is_possible(rollout: Rollout) -> None:
    do(rollout, "pause")
    with pytest.raises(rollouts.NotAllowed, match="possible now: resume, abort, rollback"):
        do(rollout, "advance")


def test_a_paused_rollout_opens_nothing(rollout: Rollout) -> None:
    do(rollout, "pause")
    assert tick(rollout).current_stage == 0
    do(rollout, "resume")
    assert tick(rollout).current_stage == 1


def test_abort_takes_offers_back_and_leaves_updated_frames_updated(
    rollout: Rollout, release_1_0: Release, release_1_1: Release
) -> None:
    rollout = tick(rollout)
    updated = {row.frame_id for row in offered(rollout)}
    commit(rollout)
    rollout = tick(rollout)
    in_flight = {row.frame_id for row in offered(rollout)} - updated

    do(rollout, "abort", "the wrong adapter")

    assert wanted(release_1_1) == updated
    assert in_flight <= wanted(release_1_0)
    rollout = tick(rollout)
    assert (rollout.state, rollout.reason) == ("aborted", "the wrong adapter")
    assert rollout_detail(rollout).in_flight == 0
    assert rollout.events.latest("id").detail["frames"] == len(in_flight)


def test_rollback_returns_updated_frames_to_what_they_had(
    rollout: Rollout, release_1_0: Release, release_1_1: Release, group_frames: list[str]
) -> None:
    run_to_end(rollout)
    do(rollout, "rollback", "complaints")
    assert wanted(release_1_1) == set()
    assert set(group_frames) <= wanted(release_1_0)
    detail = rollout.events.latest("id").detail
    assert (detail["frames"], detail["without_former_release"]) == (80, 0)
    assert (tick(rollout).state, rollout_detail(rollout).stages[2].counts["returning"]) == ("rolling_back", 65)
    report_all(group_frames, "committed", release_1_0.digest)  # said before it knew of the order to return
    assert tick(rollout).state == "rolling_back"
    for row in DesiredState.objects.filter(pk__in=group_frames):
        report(row.frame_id, "committed", release_1_0.digest, desired_version=row.version)
    assert tick(rollout).state == "rolled_back"
    assert rollout.deployments.filter(state="returned", returned_at__isnull=False).count() == 80


def test_rollback_returns_frames_that_came_with_a_release_from_the_factory(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    (frame,) = frames(1)
    report(frame, "idle", release_1_0.digest)
    rollout = rollouts.start(release_1_1, zh, [1.0], "li", "")
    rollout = tick(rollout)
    commit(rollout)
    do(rollout, "rollback")
    assert wanted(release_1_0) == {frame}


def test_rollback_leaves_frames_alone_that_were_meant_to_run_something_else_since(
    rollout: Rollout, release_1_0: Release, group_frames: list[str]
) -> None:
    run_to_end(rollout)
    moved = group_frames[0]
    director.set_desired([moved], None)
    do(rollout, "rollback")
    assert DesiredState.objects.get(pk=moved).release is None


def test_a_second_rollout_on_the_same_frames_is_refused(rollout: Rollout, release_1_1: Release) -> None:
    every = FrameGroup.objects.create(name="all", query="")
    with pytest.raises(rollouts.NotAllowed, match=r"Rollout \d+ \(talking-portrait 1.1\) is under way on frames"):
        rollouts.start(release_1_1, every, [1.0], "li", "")
    others = FrameGroup.objects.create(name="en", query="locale=en")
    rollouts.start(release_1_1, others, [1.0], "li", "")


@pytest.mark.parametrize("stages", [[], [0.0, 1.0], [0.5, 0.25], [1.5], [float("nan")], [0.1] * 11])
def test_stages_that_make_no_sense_are_refused(
    stages: list[float], release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(2)
    with pytest.raises(rollouts.NotAllowed):
        rollouts.start(release_1_1, zh, stages, "li", "")


def test_a_group_without_frames_is_refused(release_1_1: Release, zh: FrameGroup) -> None:
    with pytest.raises(rollouts.NotAllowed, match="The group zh has no frames"):
        rollouts.start(release_1_1, zh, STAGES, "li", "")


def test_frames_that_join_the_group_later_take_part_and_those_that_leave_do_not(
    rollout: Rollout, frames: Enrol, group_frames: list[str]
) -> None:
    newcomers = frames(20, "new", "zh")
    waiting = Deployment.objects.filter(rollout=rollout, stage=3)[0]
    waiting.frame.locale = "en"
    waiting.frame.save()
    run_to_end(rollout)
    assert set(newcomers) <= wanted(rollout.release)
    assert waiting.frame_id not in wanted(rollout.release)
    waiting.refresh_from_db()
    assert (waiting.state, waiting.stage) == ("pending", None)
    assert waiting.left_at is not None


def test_the_first_stage_of_a_small_group_holds_somebody(zh: FrameGroup, frames: Enrol) -> None:
    frames(30)
    shares = [0.05, 1.0]
    for _ in range(20):
        salt = membership.draw_salt(zh, shares)
        assert any(household_number(salt, frame.household_id) < 0.05 for frame in frames_in(zh))


def test_frames_beyond_the_last_share_are_never_offered_anything(
    release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(60)
    rollout = rollouts.start(release_1_1, zh, [0.5], "li", "")
    run_to_end(rollout)
    rollout.refresh_from_db()
    left = rollout.deployments.filter(stage=None)
    assert rollout.state == "succeeded"
    assert {row.arm for row in left} == {"control"}
    assert left.count() + len(wanted(release_1_1)) == 60
