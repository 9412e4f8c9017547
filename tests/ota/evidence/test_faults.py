"""What goes wrong around a rollout, each with real rows: evidence, look, and what the engine makes of it."""

import datetime as dt
from typing import Any

import pytest

from fleet.models import Frame, FrameDay, PowerSample
from ota.domain.analysis import estimator
from ota.models import Look, Rollout
from ota.services import evidence, evidence_table, rollouts
from tests.ota.evidence.fleet import BEFORE, DAY, HOUR, START, Fleet, People

pytestmark = pytest.mark.django_db

WORSE = People(completes=0.35)


def look(rollout: Rollout, now: dt.datetime) -> Look:
    found = evidence.evaluate(rollout.pk, now)
    assert found is not None
    return found


def lived(fleet: Fleet, days: int = 3, **how: Any) -> Rollout:
    """A rollout in which people have lived for some days."""
    rollout = fleet.begin()
    for day in range(days):
        fleet.live(rollout, day, **how)
    return rollout


def test_a_harmful_release_is_rolled_back_without_anybody(fleet: Fleet) -> None:
    rollout = lived(fleet, canaries=WORSE)
    now = START + 3 * DAY
    found = look(rollout, now)
    assert (found.decision, found.reason, found.metrics) == ("rollback", "harm", ["completion"])
    assert rollouts.tick(rollout.pk, now)
    rollout.refresh_from_db()
    assert rollout.state == "rolling_back"
    event = rollout.events.get(kind="rolling_back")
    assert event.actor == "engine"
    assert event.detail["look"]["evidence"] == found.evidence
    assert event.detail["look"]["evidence"]["metrics"][0]["estimate"] == pytest.approx(0.35 - 0.8, abs=0.05)


def test_a_harmless_release_is_promoted_by_the_evidence(fleet: Fleet) -> None:
    rollout = lived(fleet, days=6)
    now = START + 6 * DAY
    found = look(rollout, now)
    assert (found.decision, found.reason) == ("promote", "harmless")
    rollouts.tick(rollout.pk, now)
    rollout.refresh_from_db()
    assert rollout.current_stage == 2
    opened = rollout.events.filter(kind="stage_opened").last()
    assert opened is not None
    assert opened.detail["action"] == {"kind": "OpenStage", "number": 2, "look": found.pk}
    assert opened.detail["look"]["id"] == found.pk


def test_an_outage_of_the_whole_fleet_rolls_nothing_back(fleet: Fleet) -> None:
    rollout = lived(fleet, days=2)
    now = START + 2 * DAY + 30 * HOUR
    found = look(rollout, now)
    assert rollout.deployments.filter(dark_at__isnull=False).count() == fleet.count
    assert (found.decision, found.reason) == ("hold", "stale")
    # Everybody is back, late: nothing is held against the canaries.
    fleet.live(rollout, 3)
    found = look(rollout, START + 4 * DAY)
    assert found.decision != "rollback"
    (dark,) = [one for one in found.evidence["metrics"] if one["name"] == "dark"]
    assert dark["log_e_harm"] < 0
    assert dark["canary_n"] + dark["control_n"] == fleet.count


def test_canaries_that_fall_silent_are_rolled_back(fleet: Fleet) -> None:
    rollout = fleet.begin()
    fleet.live(rollout, 0)
    silenced = rollout.deployments.filter(offered_at__isnull=False).values("frame_id")
    some = Frame.objects.filter(pk__in=list(silenced.values_list("frame_id", flat=True))[::3])
    some.update(last_seen=START + HOUR)
    now = START + 27 * HOUR
    found = look(rollout, now)
    assert (found.decision, found.metrics) == ("rollback", ["dark"])
    dark = set(rollout.deployments.filter(dark_at__isnull=False).values_list("dark_at", flat=True))
    assert dark == {START + 25 * HOUR}
    # They speak up again; that they were silent stays true.
    Frame.objects.update(last_seen=now)
    look(rollout, now + HOUR)
    assert rollout.deployments.filter(dark_at=START + 25 * HOUR).count() == some.count()


def test_swapped_arms_are_found_out(fleet: Fleet) -> None:
    rollout = fleet.begin()
    for day in range(3):
        fleet.live(rollout, day, canaries=WORSE, runs=BEFORE, controls_run=rollout.release_id)
    found = look(rollout, START + 3 * DAY)
    assert (found.decision, found.reason) == ("hold", "contaminated")


def test_success_on_the_old_version_is_no_exposure(fleet: Fleet) -> None:
    rollout = lived(fleet, runs=BEFORE)
    assert rollout.deployments.filter(state="committed").count() > 20
    found = look(rollout, START + 3 * DAY)
    assert (found.decision, found.reason) == ("hold", "little_exposure")
    assert found.evidence["exposure"]["playbacks"] == 0


def test_a_wrong_sample_ratio_holds(fleet: Fleet) -> None:
    rollout = lived(fleet, canaries=WORSE)
    rollout.deployments.filter(u__gte=0.3).delete()
    found = look(rollout, START + 3 * DAY)
    assert (found.decision, found.reason) == ("hold", "ratio_mismatch")


def test_canaries_that_still_wait_for_their_offer_are_no_wrong_ratio(fleet: Fleet) -> None:
    rollout = lived(fleet)
    late = rollout.deployments.filter(offered_at__isnull=False).order_by("-u")[:20]
    rollout.deployments.filter(pk__in=late).update(offered_at=None, state="pending", committed_at=None)
    found = look(rollout, START + 3 * DAY)
    assert found.reason != "ratio_mismatch"
    assert found.evidence["exposure"]["canaries"] == rollout.deployments.filter(u__lt=0.25).count() - 20


def test_a_metric_that_fails_holds_and_takes_no_other_with_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rollout = lived(fleet, days=6)
    real = estimator.sample

    def broken(table: Any, measure: Any, policy: Any) -> Any:
        if measure.name == "power":
            raise FloatingPointError("overflow encountered in multiply")
        return real(table, measure, policy)

    monkeypatch.setattr("ota.domain.analysis.evaluate.sample", broken)
    found = look(rollout, START + 6 * DAY)
    assert (found.decision, found.reason, found.metrics) == ("hold", "missing", ["power"])
    assert "power" not in {one["name"] for one in found.evidence["metrics"]}
    assert "completion" in {one["name"] for one in found.evidence["metrics"]}
    assert "power cannot be computed" in caplog.text


def test_a_broken_meter_shields_no_harm(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = lived(fleet, canaries=WORSE)
    canaries = rollout.deployments.filter(offered_at__isnull=False).values("frame_id")
    FrameDay.objects.filter(frame__in=canaries, day__gte=START.date()).update(power_sum_w=0, power_samples=0)
    PowerSample.objects.all().delete()
    found = look(rollout, START + 3 * DAY)
    assert (found.decision, found.metrics) == ("rollback", ["completion"])


def test_a_rollout_that_cannot_be_looked_at_holds_and_holds_up_no_other(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fleet.begin()
    assert look(first, START + HOUR)
    real = evidence_table.read

    def broken(rollout: Rollout, now: dt.datetime) -> Any:
        if rollout.pk == first.pk:
            raise RuntimeError("out of memory")
        return real(rollout, now)

    second = Rollout.objects.create(
        release=first.release, group=first.group, salt="6" * 32, plan=first.plan, state="running", current_stage=1,
        began_at=START, created_by="ops",
    )  # fmt: skip
    second.stages.create(number=1, share=0.25, opened_at=START)
    monkeypatch.setattr(evidence_table, "read", broken)
    assert evidence.evaluate_all(START + 2 * HOUR) == 2
    failed, fine = (Look.objects.filter(rollout=one).order_by("-id")[0] for one in (first, second))
    assert (failed.decision, failed.reason) == ("hold", "missing")
    assert failed.evidence == {"error": "RuntimeError: out of memory"}
    assert "error" not in fine.evidence


def test_once_harm_was_shown_later_looks_do_not_make_it_undone(fleet: Fleet) -> None:
    rollout = lived(fleet, canaries=WORSE)
    found = look(rollout, START + 3 * DAY)
    assert found.decision == "rollback"
    # The worker that ticks was away; meanwhile telemetry stopped, and the newest look only holds.
    now = START + 4 * DAY
    assert look(rollout, now).decision == "hold"
    rollouts.tick(rollout.pk, now)
    rollout.refresh_from_db()
    assert rollout.state == "rolling_back"
    assert rollout.events.get(kind="rolling_back").detail["look"]["id"] == found.pk


def test_a_look_that_is_too_old_opens_no_stage(fleet: Fleet) -> None:
    rollout = lived(fleet, days=6)
    assert look(rollout, START + 6 * DAY).decision == "promote"
    rollouts.tick(rollout.pk, START + 6 * DAY + 3 * HOUR)
    rollout.refresh_from_db()
    assert rollout.current_stage == 1
    rollouts.tick(rollout.pk, START + 6 * DAY + HOUR)
    rollout.refresh_from_db()
    assert rollout.current_stage == 2
