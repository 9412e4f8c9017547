"""From rows to the frame-day table: whose days count, from when, and what is in them."""

import datetime as dt
import uuid

import pytest

from fleet.models import Complaint, Frame, FrameDay, HealthEvent, Household, Playback, PowerSample
from ota.domain.analysis.policy import BREAKAGE, COMPLAINT, COMPLETION, DARK, POWER
from ota.domain.analysis.table import Arm, Table
from ota.models import Deployment, Rollout
from ota.services import evidence, evidence_rows
from ota.services.evidence_rows import CRASHES
from protocol.errors import Reason
from tests.ota.evidence.fleet import BEFORE, DAY, HOUR, START, Fleet, MakeFleet, plan
from tests.ota.world import enrol

pytestmark = pytest.mark.django_db

BEGAN = START + 13 * HOUR
NOW = START + 3 * DAY


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Fleet:
    return make_fleet(count=12)


@pytest.fixture
def rollout(fleet: Fleet) -> Rollout:
    """Begun at 13:00; a quarter of the households has the release, frames seen just now."""
    rollout = fleet.begin(at=BEGAN)
    FrameDay.objects.all().delete()
    Frame.objects.update(last_seen=NOW)
    return rollout


def of(rollout: Rollout, arm: str) -> list[Deployment]:
    canary = {"offered_at__isnull": False} if arm == "canary" else {"offered_at": None, "u__gte": 0.25}
    return list(rollout.deployments.filter(**canary).order_by("id"))


def table(rollout: Rollout, now: dt.datetime = NOW) -> Table:
    return evidence.table_of(rollout, 1, now)


def place(rollout: Rollout, row: Deployment) -> int:
    """Of the frame in the table: units come in the order of their first Deployments."""
    return list(rollout.deployments.order_by("id").values_list("id", flat=True)).index(row.pk)


def day(row: Deployment, number: int, release: str, **sums: float) -> None:
    FrameDay.objects.create(frame_id=row.frame_id, day=(START + number * DAY).date(), release=release, **sums)


def event(at: dt.datetime, row: Deployment, release: str = BEFORE) -> dict[str, object]:
    named = {"frame_id": row.frame_id, "outbox_id": uuid.uuid4(), "seq": 1}
    return named | {"at": at, "received_at": at, "release": release}


def film(at: dt.datetime, row: Deployment, release: str = BEFORE, *, completed: bool = True) -> None:
    Playback.objects.create(
        **event(at, row, release), playback_id=uuid.uuid4(), mode="talking", voice_s=5, video_s=5, watched_s=5,
        completed=completed, first_frame_ms=200.0, fps=25.0,
    )  # fmt: skip


def rows_of(found: Table, frame: int) -> list[tuple[int, float, float, float, float]]:
    """(day, playbacks, under the release, completed, complained)."""
    days = found.days
    return [
        (int(days.day[i]), days.playbacks[i], days.under_release[i], days.sums[COMPLETION].total[i], days.complained[i])
        for i in range(len(days))
        if days.frame[i] == frame
    ]


def test_a_canary_counts_from_its_offer_and_a_control_from_midnight(rollout: Rollout) -> None:
    canary, control = of(rollout, "canary")[0], of(rollout, "control")[0]
    release = rollout.release_id
    # Both played in the morning and in the evening of the day of the offer; the roll-up knows only the day.
    for row in (canary, control):
        day(row, 0, BEFORE, playbacks=5, completed=3)
        day(row, 1, BEFORE, playbacks=1, completed=0)
    day(canary, 0, release, playbacks=2, completed=1)
    day(canary, 1, release, playbacks=4, completed=4)
    film(BEGAN - HOUR, canary)
    film(BEGAN, canary, completed=False)
    film(BEGAN + HOUR, canary, release)
    film(BEGAN + 2 * HOUR, canary, release, completed=False)
    film(BEGAN + DAY, canary, release)  # another day: its roll-up has it
    found = table(rollout)
    assert rows_of(found, place(rollout, canary)) == [(0, 3, 2, 1, 0), (1, 5, 4, 4, 0)]
    assert rows_of(found, place(rollout, control)) == [(0, 5, 0, 3, 0), (1, 1, 0, 0, 0)]
    assert found.frames.offered_h[place(rollout, canary)] == 13.0
    assert found.now_h == 72.0


def test_days_before_a_later_offer_are_nobodys(rollout: Rollout) -> None:
    canary = of(rollout, "canary")[0]
    Deployment.objects.filter(pk=canary.pk).update(offered_at=START + DAY + HOUR)
    day(canary, 0, BEFORE, playbacks=5)
    day(canary, 1, BEFORE, playbacks=5)
    day(canary, 2, rollout.release_id, playbacks=5)
    film(START + DAY + 2 * HOUR, canary, rollout.release_id)
    assert rows_of(table(rollout), place(rollout, canary)) == [(1, 1, 1, 1, 0), (2, 5, 5, 0, 0)]


def test_arms_are_the_household_s_number_and_its_offer(rollout: Rollout) -> None:
    found, rows = table(rollout), list(rollout.deployments.order_by("id"))
    for number, row in enumerate(rows):
        wanted = Arm.CANARY if row.u < 0.25 else Arm.CONTROL
        assert found.frames.arm[number] == wanted
    waiting = of(rollout, "canary")[0]
    Deployment.objects.filter(pk=waiting.pk).update(offered_at=None)
    assert table(rollout).frames.arm[place(rollout, waiting)] == Arm.NEITHER


def test_while_everybody_else_has_it_the_holdback_is_the_control(rollout: Rollout) -> None:
    held = rollout.deployments.order_by("-u")[0]
    Deployment.objects.filter(pk=held.pk).update(u=0.97)
    rollout.deployments.exclude(pk=held.pk).update(offered_at=START + DAY)
    found = evidence.table_of(rollout, 2, NOW)
    assert (found.frames.arm == Arm.CONTROL).sum() == 1
    assert found.frames.arm[place(rollout, held)] == Arm.CONTROL
    assert (found.frames.arm == Arm.CANARY).sum() == 11
    with pytest.raises(ValueError, match="nobody to compare with"):
        evidence.table_of(rollout, 3, NOW)


def test_power_that_no_meter_measured_says_nothing(rollout: Rollout) -> None:
    canary = of(rollout, "canary")[0]
    for estimated, watts in ((False, 5.0), (True, 9.0)):
        at = event(BEGAN + HOUR, canary)
        PowerSample.objects.create(**at, window_s=5, total_w=watts, estimated=estimated)
    day(canary, 0, BEFORE, power_sum_w=5.0, power_samples=1)
    found = table(rollout)
    frame = place(rollout, canary)
    (row,) = [i for i in range(len(found.days)) if found.days.frame[i] == frame]
    assert (found.days.sums[POWER].total[row], found.days.sums[POWER].count[row]) == (5.0, 1.0)


def test_measures_that_nobody_has_are_left_out(rollout: Rollout) -> None:
    day(of(rollout, "control")[0], 2, BEFORE, playbacks=3, latency_log_sum=15.0, latency_samples=3)
    assert set(table(rollout).days.sums) == {COMPLETION, "latency"}
    look = evidence.evaluate(rollout.pk, NOW)
    assert look is not None
    assert look.evidence["left_out"] == ["power", "fps"]
    assert look.reason == "little_exposure"  # not "missing"


def test_the_past_is_the_28_days_before_and_complaints_of_90(rollout: Rollout) -> None:
    row = of(rollout, "control")[0]
    for number, complaints in ((-28, 0), (-1, 2), (-29, 1), (-90, 1), (-91, 1)):
        day(row, number, BEFORE, playbacks=10, completed=4, complaints=complaints)
    day(row, -1, "c" * 64, playbacks=10, completed=4, complaints=1)  # the same day under another release
    Frame.objects.filter(pk=row.frame_id).update(enrolled_at=START - 60 * DAY)
    found, frame = table(rollout).frames, place(rollout, row)
    assert (found.history[COMPLETION].total[frame], found.history[COMPLETION].count[frame]) == (12.0, 30.0)
    assert found.history_complaints[frame] == 3
    assert found.history_days[frame] == 90  # older than its enrolment, says its telemetry
    new = of(rollout, "control")[1]
    Frame.objects.filter(pk=new.frame_id).update(enrolled_at=START + HOUR)
    assert table(rollout).frames.history_days[place(rollout, new)] == 0


def test_first_events_of_each_kind_whoever_they_hit(rollout: Rollout) -> None:
    canary, control = of(rollout, "canary")[0], of(rollout, "control")[0]
    for hour in (30, 20):
        Complaint.objects.create(**event(START + hour * HOUR, control), playback_id=uuid.uuid4(), kind="lips")
    Complaint.objects.create(**event(START - HOUR, canary), playback_id=uuid.uuid4(), kind="lips")
    HealthEvent.objects.create(**event(START + 40 * HOUR, canary), kind=CRASHES[0])
    HealthEvent.objects.create(**event(START + 5 * HOUR, canary), kind="npu_fault")
    HealthEvent.objects.create(**{**event(START + 5 * HOUR, canary), "outbox_id": None, "seq": None}, kind=CRASHES[0])
    Deployment.objects.filter(pk=canary.pk).update(failed_at=START + 25 * HOUR, state="reverted")
    Deployment.objects.filter(pk=control.pk).update(dark_at=START + 60 * HOUR)
    first = table(rollout).frames.first_h
    here, there = place(rollout, canary), place(rollout, control)
    assert (first[COMPLAINT][there], first[COMPLAINT][here]) == (20.0, float("inf"))
    assert (first[BREAKAGE][here], first[BREAKAGE][there]) == (25.0, float("inf"))
    assert (first[DARK][there], first[DARK][here]) == (60.0, float("inf"))


def test_late_joiners_count_from_then_on_and_retired_frames_until_then(rollout: Rollout) -> None:
    late, gone = of(rollout, "control")[:2]
    Deployment.objects.filter(pk=late.pk).update(entered_at=START + 30 * HOUR)
    Frame.objects.filter(pk=gone.frame_id).update(lifecycle="retired")
    assert evidence.evaluate(rollout.pk, START + 50 * HOUR) is not None
    frames = table(rollout).frames
    assert frames.entered_h[place(rollout, late)] == 30.0
    assert frames.left_h[place(rollout, gone)] == 50.0
    assert frames.entered_h[place(rollout, gone)] == 0.0


def test_frames_of_one_home_are_one_unit(rollout: Rollout) -> None:
    one, other = of(rollout, "control")[:2]
    home = Household.objects.create(id="big-home")
    Frame.objects.filter(pk__in=[one.frame_id, other.frame_id]).update(household=home)
    rollout.deployments.filter(pk__in=[one.pk, other.pk]).update(u=0.5)
    day(one, 0, BEFORE, playbacks=2, completed=1, complaints=1)
    day(other, 0, BEFORE, playbacks=3, completed=3, complaints=1)
    found = table(rollout)
    assert len(found.frames) == 11
    (home_row,) = [rows_of(found, i) for i in range(11) if rows_of(found, i)]
    assert home_row == [(0, 5, 0, 4, 1)]


def test_nothing_is_looked_at_where_there_is_nobody_to_compare_with(fleet: Fleet) -> None:
    from ota.domain.plan import of_shares

    everybody = fleet.begin(of_shares([1.0]))
    assert evidence.evaluate(everybody.pk, NOW) is None


def test_a_meter_that_canaries_had_and_lost_is_missed_and_one_they_never_had_is_not(rollout: Rollout) -> None:
    canaries, controls = of(rollout, "canary"), of(rollout, "control")
    for row in controls:
        day(row, -1, BEFORE, playbacks=5, power_sum_w=24.0, power_samples=5)
        day(row, 2, BEFORE, playbacks=5, power_sum_w=24.0, power_samples=5)
    assert POWER not in table(rollout).days.sums
    day(canaries[0], -1, BEFORE, playbacks=5, power_sum_w=24.0, power_samples=5)
    assert POWER in table(rollout).days.sums


def test_what_is_tried_again_or_went_well_in_the_end_is_no_breakage(fleet: Fleet) -> None:
    rollout = fleet.begin(plan(retries={Reason.TIMEOUT: 1}), at=BEGAN)
    canaries = of(rollout, "canary")[:2]
    row, other = canaries
    failed = {"state": "failed", "reason": Reason.TIMEOUT.value, "failed_at": START + 25 * HOUR}
    Deployment.objects.filter(pk=other.pk).update(state="failed", reason="bad_key", failed_at=START + 26 * HOUR)
    never = float("inf")
    for found, change in (
        (never, failed | {"attempts": 1}),
        (25.0, failed | {"attempts": 2}),
        (never, {"state": "committed", "reason": ""}),
    ):
        Deployment.objects.filter(pk=row.pk).update(**change)
        first = table(rollout).frames.first_h[BREAKAGE]
        assert [first[place(rollout, one)] for one in canaries] == [found, 26.0]


def test_a_frame_that_comes_in_while_a_look_reads_waits_for_the_next(
    rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = evidence_rows.frame_days

    def late(*given: object) -> object:
        (new,) = enrol(1, prefix="new")
        row = Deployment.objects.create(rollout=rollout, frame_id=new, u=0.9, arm="control", entered_at=NOW)
        day(row, 1, BEFORE, playbacks=5, completed=5)
        return reads(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(evidence_rows, "frame_days", late)
    assert len(table(rollout).frames) == 12
