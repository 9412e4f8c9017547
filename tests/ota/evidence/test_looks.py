"""Looks: when they are taken, what they keep, how they are read, and what people say about them."""

import math
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from django.db import connection, connections, transaction

from fleet.models import Frame
from ota.domain import rollout as domain
from ota.domain.actions import from_detail
from ota.domain.analysis.verdict import Decision, Reason, Verdict
from ota.domain.plan import BenefitGate
from ota.domain.rollout import NotAllowed
from ota.locks import Lock, try_hold
from ota.models import Look, Rollout
from ota.selectors_looks import Standing, histories, history, verdict_of
from ota.services import evidence, looks, rollouts
from ota.services.comments import comment
from ota.services.facts import plan_of, state_of
from protocol.clock import PeopleClock
from tests.ota.evidence.fleet import DAY, HOUR, START, Fleet, MakeFleet, People, plan

pytestmark = pytest.mark.django_db


@pytest.fixture
def small(make_fleet: MakeFleet) -> Fleet:
    return make_fleet(count=80)


def test_a_rollout_is_looked_at_when_it_is_due(small: Fleet, settings: Any) -> None:
    settings.FRAMEFLEET_LOOK_EVERY_S = 900
    rollout = small.begin()
    assert evidence.evaluate_all(START) == 1  # never before
    assert evidence.evaluate_all(START + 0.2 * HOUR) == 0
    assert evidence.evaluate_all(START + 0.25 * HOUR) == 1
    Rollout.objects.filter(pk=rollout.pk).update(current_stage=2)
    rollout.stages.filter(number=2).update(opened_at=START)
    assert evidence.evaluate_all(START + 0.3 * HOUR) == 1  # never before at this stage
    Rollout.objects.filter(pk=rollout.pk).update(state="paused")
    assert evidence.evaluate_all(START + 1 * HOUR) == 1
    Rollout.objects.filter(pk=rollout.pk).update(state="aborted")
    assert evidence.evaluate_all(START + 2 * HOUR) == 0


def test_where_days_pass_in_seconds_looks_keep_real_time(small: Fleet, settings: Any) -> None:
    settings.FRAMEFLEET_LOOK_EVERY_S = 2
    settings.FRAMEFLEET_PEOPLE_CLOCK = PeopleClock(1_790_000_000_000, 300.0, 16.0)
    small.begin()
    assert evidence.evaluate_all(START) == 1
    assert evidence.evaluate_all(START + 2.9 * HOUR) == 0
    assert evidence.evaluate_all(START + 3 * HOUR) == 1  # an eighth of a day: 2 seconds


def test_what_two_workers_look_at_is_looked_at_once(small: Fleet) -> None:
    rollout = small.begin()
    got: list[bool] = []

    def other() -> None:
        with transaction.atomic():
            got.append(try_hold(Lock.EVIDENCE, rollout.pk))
            got.append(try_hold(Lock.EVIDENCE, rollout.pk + 1))
        connections.close_all()

    with transaction.atomic():
        assert try_hold(Lock.EVIDENCE, rollout.pk)
        worker = threading.Thread(target=other)
        worker.start()
        worker.join()
    assert got == [False, True]


def test_looks_are_bounded(small: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "KEPT", 5)
    rollout = small.begin()
    verdict = Verdict(Decision.HOLD, Reason.DWELL, (), (), -math.inf, math.log(20))
    kept = [looks.store(rollout, 1, START + n * HOUR, verdict, {}).pk for n in range(8)]
    assert list(Look.objects.filter(rollout=rollout).values_list("pk", flat=True)) == kept[-5:]


def test_a_verdict_is_read_as_plain_data(small: Fleet) -> None:
    rollout = small.begin(plan(completion=0.03, power=0.02))
    assert verdict_of(rollout) is None
    for day in range(2):
        small.live(rollout, day)
    for hour in (46, 47, 48):
        evidence.evaluate(rollout.pk, START + hour * HOUR)
    found = verdict_of(rollout)
    assert found is not None
    assert (found.decision, found.reason) == (Decision.HOLD, Reason.NOT_ENOUGH_EVIDENCE)
    assert found.sentence == "Hold: not enough evidence yet about power, completion."
    assert (found.enough_evidence, found.since) == (False, START + 46 * HOUR)
    assert found.needed == pytest.approx(20)
    metrics = {one.name: one for one in found.metrics}
    completion = metrics["completion"]
    assert (completion.standing, completion.limit, completion.harm) == (Standing.NOT_ENOUGH, -0.03, -1)
    assert completion.low is not None
    assert completion.estimate is not None
    assert completion.high is not None
    assert completion.low < completion.estimate < completion.high
    assert metrics["power"].limit == 0.02
    assert metrics["breakage"].standing is Standing.WATCHED
    assert found.left_out == ("latency", "fps")
    assert found.exposure is not None
    assert found.exposure.enough
    assert {one.metric for one in found.benefit} == {"completion", "complaint"}
    assert {one.where for one in found.benefit} == {"everybody"}


def test_a_history_is_thinned_and_ends_with_the_newest_look(small: Fleet) -> None:
    rollout = small.begin()
    small.live(rollout, 0)
    for hour in range(14, 24):
        evidence.evaluate(rollout.pk, START + hour * HOUR)
    points = history(rollout, "completion", points=4)
    assert [point.at for point in points] == [START + hour * HOUR for hour in (14, 17, 20, 23)]
    assert points[-1].limit == -0.15
    assert set(histories(rollout)) >= {"completion", "power", "complaint", "dark"}
    assert len(history(rollout, "completion")) == 10


def test_events_replayed_give_the_state_again(small: Fleet) -> None:
    rollout = small.begin()
    for day in range(3):
        small.live(rollout, day, canaries=People(completes=0.1))
    rollouts.command(rollout.pk, "pause", str(rollout.revision), "ops", "a holiday", START + 2 * DAY)
    evidence.evaluate(rollout.pk, START + 3 * DAY)
    rollouts.tick(rollout.pk, START + 3 * DAY)
    comment(rollout.pk, "I saw that.", "ops", now=START + 3 * DAY)
    rollout.deployments.filter(state="returning").update(state="returned")
    rollouts.tick(rollout.pk, START + 4 * DAY)
    rollout.refresh_from_db()
    assert rollout.state == "rolled_back"
    happened = [
        (from_detail(event.detail["action"]), event.at) for event in rollout.events.all() if "action" in event.detail
    ]
    assert domain.replay(domain.planned(plan_of(rollout)), happened) == state_of(rollout)
    assert any(getattr(action, "look", None) for action, _ in happened)


def test_a_verdict_is_acknowledged_once(small: Fleet) -> None:
    rollout = small.begin()
    look = evidence.evaluate(rollout.pk, START + HOUR)
    assert look is not None
    said = comment(rollout.pk, " Seen, waiting. ", "ops", look.pk)
    assert (said.kind, said.reason, said.detail["look"]["id"]) == ("acknowledged", "Seen, waiting.", look.pk)
    assert comment(rollout.pk, "Seen, waiting.", "ops", look.pk).pk == said.pk
    assert comment(rollout.pk, "Seen, waiting.", "ops").kind == "commented"
    for text, number in (("", None), ("x" * 501, None), ("a\0b", None), ("", look.pk + 1)):
        with pytest.raises(NotAllowed):
            comment(rollout.pk, text, "ops", number)


def test_a_release_that_helps_its_target_and_hurts_the_rest_goes_back(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(count=240)
    quiet = [f"frame-{number:04d}" for number in range(0, 240, 2)]
    Frame.objects.filter(pk__in=quiet).update(site="old-town")
    rollout = fleet.begin(plan(target="site=old-town", benefit=BenefitGate(metric="completion", at_least=0.02)))
    others = rollout.deployments.exclude(frame_id__in=quiet)
    for day in range(4):
        # Better where it should help, worse by as much elsewhere: on average nothing has changed.
        fleet.live(rollout, day, People(completes=0.6), People(completes=0.9))
        _spoil(rollout, others.filter(offered_at__isnull=False).values_list("frame_id", flat=True), day)
    look = evidence.evaluate(rollout.pk, START + 4 * DAY)
    assert look is not None
    assert (look.decision, look.metrics) == ("rollback", ["completion"])
    whole = {one["name"]: one for one in look.evidence["metrics"]}["completion"]
    rest = {one["name"]: one for one in look.evidence["parts"]["rest"]}["completion"]
    assert whole["log_e_harm"] < rest["log_e_harm"]
    helped = {(one["where"], one["metric"]): one["better"] for one in look.evidence["benefit"]}
    assert helped["target", "completion"] is True
    assert helped["rest", "completion"] is False
    assert look.benefit
    # Whoever moves into the target later is not of it: that was fixed before the offers.
    Frame.objects.update(site="old-town")
    evidence.note_members(rollout, START + 4 * DAY)
    assert rollout.deployments.filter(targeted=True).count() == len(quiet)


def _spoil(rollout: Rollout, frame_ids: Iterable[str], day: int) -> None:
    """On these frames nearly nothing of that day was watched to its end."""
    from fleet.models import FrameDay, Playback

    FrameDay.objects.filter(frame_id__in=list(frame_ids), day=(START + day * DAY).date()).update(completed=0)
    Playback.objects.filter(frame_id__in=list(frame_ids)).update(completed=False)


def test_the_task_looks_and_the_tick_asks_for_it(small: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    from ota import tasks

    asked: list[dict[str, object]] = []
    monkeypatch.setattr(tasks.evaluate, "apply_async", lambda **how: asked.append(how))
    tasks.tick()
    assert asked == []
    rollout = small.begin()
    monkeypatch.setattr("fleet.clock.now", lambda: START + HOUR)
    tasks.tick()
    assert len(asked) == 1
    tasks.evaluate()
    assert Look.objects.filter(rollout=rollout).count() == 1
    tasks.tick()
    assert len(asked) == 1


def test_nobody_waits_for_rows_that_the_engine_holds(small: Fleet) -> None:
    rollout = small.begin()
    Frame.objects.update(last_seen=START)
    assert connection.in_atomic_block
    evidence.note_members(rollout, START + 25 * HOUR)
    assert rollout.deployments.filter(dark_at=START + 24 * HOUR).count() == small.count
