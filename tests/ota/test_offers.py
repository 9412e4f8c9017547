"""Which frames of an open stage are offered the release at a tick: order, hours, moments, limits, further tries."""

import datetime as dt
from collections import Counter
from importlib import import_module
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from fleet.models import Frame, FrameGroup
from ota.domain import schedule
from ota.domain.plan import Blackout, Plan, StagePlan, Window
from ota.models import Deployment, DesiredState, Release, Rollout
from ota.services import freezes, membership, offers, pins, rollouts
from protocol.errors import Reason
from tests.ota.world import Enrol, fail, offered, report

pytestmark = pytest.mark.django_db

NOON = dt.datetime(2026, 12, 1, 12, 0, tzinfo=dt.UTC)
MINUTE, HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Always the same households with the same numbers."""
    monkeypatch.setattr(membership, "draw_salt", lambda group, shares: "b" * 32)


@pytest.fixture
def start(release_1_1: Release, zh: FrameGroup, frames: Enrol) -> Any:
    """Start a rollout of one stage with these fields of its plan, at NOON."""

    def begin(count: int, **fields: Any) -> Rollout:
        frames(count)
        share = fields.pop("share", StagePlan(share=1.0))
        return rollouts.start(release_1_1, zh, Plan(stages=[share], **fields), "li", "an urgent fix", NOON)

    return begin


def tick(rollout: Rollout, now: dt.datetime = NOON) -> int:
    """Offers that this tick made."""
    before = len(offered(rollout))
    rollouts.tick(rollout.pk, now)
    return len(offered(rollout)) - before


def test_frames_are_offered_the_release_in_the_order_of_their_households_numbers(start: Any) -> None:
    rollout = start(20, at_once=7)
    assert tick(rollout) == 7
    first = set(rollout.deployments.order_by("u").values_list("frame_id", flat=True)[:7])
    assert {row.frame_id for row in offered(rollout)} == first


def test_no_more_than_at_once_are_in_flight(start: Any) -> None:
    rollout = start(9, at_once=4)
    assert (tick(rollout), tick(rollout)) == (4, 0)
    for row in offered(rollout)[:3]:
        report(row.frame_id, "committed", rollout.release_id, desired_version=row.desired_version)
    assert tick(rollout) == 3


def test_a_stages_own_limit_goes_before_the_plans(start: Any) -> None:
    assert tick(start(9, at_once=8, share=StagePlan(share=1.0, at_once=2))) == 2


def test_so_many_a_minute_and_no_more_over_several_ticks(start: Any) -> None:
    rollout = start(20, per_minute=6)
    assert [tick(rollout, NOON + second * dt.timedelta(seconds=1)) for second in (0, 20, 40, 59)] == [6, 0, 0, 0]
    assert [tick(rollout, NOON + minutes * MINUTE) for minutes in (1, 2, 3)] == [6, 6, 2]


def test_one_tick_offers_a_bounded_number(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "MOST", 5)
    rollout = start(12)
    assert [tick(rollout) for _ in range(4)] == [5, 5, 2, 0]


def test_frames_of_one_site_take_turns_and_a_full_site_holds_up_no_other(start: Any) -> None:
    rollout = start(12, per_site=2, at_once=6)
    ids = list(rollout.deployments.order_by("u").values_list("frame_id", flat=True))
    Frame.objects.filter(pk__in=ids[:8]).update(site="tower")
    sites = dict(Frame.objects.values_list("pk", "site"))
    assert tick(rollout) == 2, "the first six are all of the tower, where two may be in flight"
    assert tick(rollout) == 4, "the tower is full, and all others are free"
    assert Counter(sites[row.frame_id] for row in offered(rollout)) == {"tower": 2, "": 4}
    done = next(row for row in offered(rollout) if sites[row.frame_id])
    report(done.frame_id, "committed", rollout.release_id, desired_version=done.desired_version)
    assert tick(rollout) == 1


def test_a_site_is_shared_with_other_rollouts(start: Any, release_1_1: Release, frames: Enrol) -> None:
    frames(2, "en", "en")
    Frame.objects.update(site="tower")
    others = FrameGroup.objects.create(name="en", query="locale=en")
    tick(rollouts.start(release_1_1, others, [1.0], "li", "", NOON))
    rollout = start(3, per_site=3)
    Frame.objects.update(site="tower")
    assert tick(rollout) == 1


def test_frames_of_one_household_share_its_line(start: Any) -> None:
    rollout = start(4, per_site=1)
    ids = list(rollout.deployments.values_list("frame_id", flat=True))
    Frame.objects.filter(pk__in=ids).update(household=ids[0])
    assert (tick(rollout), tick(rollout)) == (1, 0)


def test_offers_begin_in_the_frames_own_hours(start: Any) -> None:
    rollout = start(6, windows=[Window(opens=60, closes=300)])
    ids = list(rollout.deployments.values_list("frame_id", flat=True))
    Frame.objects.filter(pk__in=ids[:2]).update(timezone="Asia/Shanghai")
    assert tick(rollout) == 0
    assert tick(rollout, NOON + 6 * HOUR) == 2, "02:00 in Shanghai, 18:00 in UTC"
    assert {row.frame_id for row in offered(rollout)} == set(ids[:2])
    assert tick(rollout, NOON + 14 * HOUR) == 4


def test_nothing_is_offered_on_blackout_dates(start: Any) -> None:
    rollout = start(4, blackout=[Blackout(first=NOON.date(), last=NOON.date())])
    Frame.objects.filter(pk=rollout.deployments.earliest("u").frame_id).update(timezone="Asia/Shanghai")
    assert tick(rollout) == 0
    assert tick(rollout, NOON + 5 * HOUR) == 1, "where the next day has begun"
    assert tick(rollout, NOON + 13 * HOUR) == 3


@pytest.mark.parametrize("minutes", [30, 60])
def test_each_frame_has_a_moment_of_its_own_within_the_jitter(start: Any, minutes: int) -> None:
    rollout = start(40, jitter_s=3_600)
    tick(rollout)
    now = NOON + minutes * MINUTE
    tick(rollout, now)
    plan = Plan(stages=[StagePlan(share=1.0)], jitter_s=3_600)
    due = {row.frame_id for row in rollout.deployments.all() if schedule.moment(plan, row.u, NOON, NOON) <= now}
    assert {row.frame_id for row in offered(rollout)} == due
    assert (len(due) == 40) == (minutes == 60)


def test_the_jitter_counts_from_the_hours_where_they_come_later(start: Any) -> None:
    rollout = start(40, jitter_s=3_600, windows=[Window(opens=18 * 60, closes=20 * 60)])
    tick(rollout)
    assert 0 < tick(rollout, NOON + 6 * HOUR + 20 * MINUTE) < 40
    tick(rollout, NOON + 7 * HOUR)
    assert len(offered(rollout)) == 40


def test_a_freeze_stops_offers_until_it_is_lifted(start: Any) -> None:
    rollout = start(4, at_once=2)
    assert tick(rollout) == 2
    freezes.freeze("a trade fair", "li", NOON)
    for row in offered(rollout):
        report(row.frame_id, "committed", rollout.release_id, desired_version=row.desired_version)
    assert tick(rollout) == 0
    with pytest.raises(rollouts.NotAllowed, match=r"frozen already \(a trade fair\)"):
        freezes.freeze("again", "li")
    freezes.lift("li")
    assert tick(rollout) == 2
    with pytest.raises(rollouts.NotAllowed, match="not frozen"):
        freezes.lift("li")


def test_a_freeze_stops_no_rollback(start: Any) -> None:
    rollout = start(3)
    tick(rollout)
    freezes.freeze("a trade fair", "li")
    rollout.refresh_from_db()
    rollouts.command(rollout.pk, "rollback", str(rollout.revision), "li", "")
    assert set(DesiredState.objects.values_list("release", flat=True)) == {None}


def test_an_emergency_passes_hours_limits_and_freezes_once_somebody_else_agrees(start: Any) -> None:
    freezes.freeze("a trade fair", "li")
    strict = {"windows": [Window(opens=60, closes=61)], "at_once": 1, "per_minute": 1, "jitter_s": 86_400}
    rollout = start(5, emergency=True, **strict)
    assert (rollout.state, tick(rollout)) == ("proposed", 0)
    rollouts.command(rollout.pk, "approve", str(rollout.revision), "wang", "", NOON)
    assert tick(rollout) + len(offered(rollout)) >= 5


# --- further tries ----------------------------------------------------------------------------------------------------


def test_a_failure_of_a_kind_that_passes_is_tried_again_after_growing_pauses(start: Any) -> None:
    rollout = start(1, retries={Reason.DISK_FULL: 2})
    now = timezone.now()
    rollouts.tick(rollout.pk, now)
    versions = []
    for pause in (HOUR, 2 * HOUR):
        (row,) = offered(rollout)
        versions.append(row.desired_version)
        fail(row)
        rollouts.tick(rollout.pk, now + 30 * MINUTE)
        row.refresh_from_db()
        assert row.state == "failed"
        row.rollout.refresh_from_db()
        assert row.rollout.state == "running", "what is tried again has not failed the stage"
        Deployment.objects.filter(pk=row.pk).update(updated_at=now - pause + MINUTE)
        rollouts.tick(rollout.pk, now)
        row.refresh_from_db()
        assert row.state == "failed"
        rollouts.tick(rollout.pk, now + 2 * MINUTE)
        row.refresh_from_db()
        assert (row.state, row.reason) == ("offered", "")
        assert row.failed_at is not None, "the evidence knows that it failed once"
    fail(offered(rollout)[0])
    rollouts.tick(rollout.pk, now + 48 * HOUR)
    (row,) = offered(rollout)
    assert (row.state, row.attempts) == ("failed", 3)
    assert versions == sorted(set(versions)), "each try is a new order"
    rollout.refresh_from_db()
    assert rollout.state == "paused", "now it counts"


def test_a_failure_of_another_kind_is_not_tried_again(start: Any) -> None:
    rollout = start(2, retries={Reason.NOT_AVAILABLE: 3})
    tick(rollout)
    fail(offered(rollout)[0])
    tick(rollout, timezone.now() + 48 * HOUR)
    assert offered(rollout)[0].state == "failed"


def test_a_frame_that_is_tried_again_returns_to_what_it_had_before_the_first_try(
    start: Any, release_1_0: Release
) -> None:
    rollout = start(1, retries={Reason.DISK_FULL: 1})
    (frame,) = rollout.deployments.values_list("frame_id", flat=True)
    report(frame, "committed", release_1_0.digest)
    tick(rollout)
    fail(offered(rollout)[0])
    Deployment.objects.update(updated_at=timezone.now() - 2 * HOUR)
    rollouts.tick(rollout.pk, timezone.now())
    (row,) = offered(rollout)
    assert (row.attempts, row.former_release) == (2, release_1_0)


def test_a_frame_that_is_heard_of_and_never_answers_has_failed_and_may_still_commit(start: Any) -> None:
    rollout = start(2, timeout_h=10)
    tick(rollout)
    row, silent = offered(rollout)
    late = NOON + 10 * HOUR
    report(row.frame_id, "downloading", None, target=rollout.release_id, desired_version=row.desired_version)
    Frame.objects.filter(pk=row.frame_id).update(last_seen=late)
    Frame.objects.filter(pk=silent.frame_id).update(last_seen=NOON - 20 * HOUR)
    tick(rollout, late - MINUTE)
    row.refresh_from_db()
    assert row.state == "downloading"
    tick(rollout, late)
    row.refresh_from_db()
    silent.refresh_from_db()
    assert (row.state, row.reason, silent.state) == ("failed", "timeout", "offered")
    tick(rollout, NOON + 24 * HOUR)
    silent.refresh_from_db()
    assert silent.state == "dark", "who is silent has not failed"
    report(row.frame_id, "committed", rollout.release_id, desired_version=row.desired_version)
    row.refresh_from_db()
    assert (row.state, row.reason) == ("committed", "")


def test_a_dark_frame_that_wakes_up_goes_on_and_has_its_whole_time(start: Any) -> None:
    rollout = start(2, timeout_h=30)
    now = timezone.now()
    rollouts.tick(rollout.pk, now - 60 * HOUR)
    row, other = offered(rollout)
    report(other.frame_id, "committed", rollout.release_id, desired_version=other.desired_version)
    rollouts.tick(rollout.pk, now)
    row.refresh_from_db()
    assert row.state == "dark"
    report(row.frame_id, "downloading", None, target=rollout.release_id, desired_version=row.desired_version)
    rollouts.tick(rollout.pk, now + MINUTE)
    row.refresh_from_db()
    assert row.state == "downloading"


def test_a_frame_that_falls_silent_in_mid_download_goes_dark_and_stays_so(start: Any) -> None:
    rollout = start(2)
    tick(rollout)
    row, other = offered(rollout)
    report(other.frame_id, "committed", rollout.release_id, desired_version=other.desired_version)
    report(row.frame_id, "downloading", None, target=rollout.release_id, desired_version=row.desired_version)
    Frame.objects.filter(pk=row.frame_id).update(last_seen=NOON + HOUR)
    for hours in (26, 27, 50):
        rollouts.tick(rollout.pk, NOON + hours * HOUR)
        row.refresh_from_db()
        assert row.state == "dark", f"after {hours} hours"
    rollout.refresh_from_db()
    assert rollout.state == "succeeded"


@pytest.mark.parametrize("gone", ["pinned", "retired"])
def test_a_frame_that_nobody_may_touch_any_more_is_not_tried_again_nor_waited_for(start: Any, gone: str) -> None:
    rollout = start(2, retries={Reason.DISK_FULL: 2})
    tick(rollout)
    row, other = offered(rollout)
    report(other.frame_id, "committed", rollout.release_id, desired_version=other.desired_version)
    fail(row)
    if gone == "pinned":
        pins.pin(row.frame_id, None, "its disk is being replaced", "li")
    else:
        Frame.objects.filter(pk=row.frame_id).update(lifecycle=Frame.Lifecycle.RETIRED)
    version = DesiredState.objects.get(pk=row.frame_id).version
    rollouts.tick(rollout.pk, NOON + 2 * HOUR)
    assert DesiredState.objects.get(pk=row.frame_id).version == version
    rollout.refresh_from_db()
    assert rollout.state == "succeeded"


def test_a_frame_in_flight_since_before_tries_were_counted_goes_dark_too(start: Any) -> None:
    rollout = start(1)
    tick(rollout)
    rollout.deployments.update(attempted_at=None, attempts=0)
    with connection.cursor() as cursor:
        cursor.execute(import_module("ota.migrations.0007_offers").OFFERED_ONCE)
    rollouts.tick(rollout.pk, NOON + 25 * HOUR)
    (row,) = offered(rollout)
    assert (row.state, row.attempts) == ("dark", 1)


def test_nothing_is_loaded_where_nothing_can_be_offered(start: Any, django_assert_max_num_queries: Any) -> None:
    rollout = start(5, at_once=5)
    tick(rollout)
    rollout.refresh_from_db()
    with django_assert_max_num_queries(2):
        assert offers.offer_due(rollout, Plan(stages=[StagePlan(share=1.0)], at_once=5), NOON) == 0
