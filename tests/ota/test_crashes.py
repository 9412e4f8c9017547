"""A worker that dies in the middle of a decision, and several at once: everything happens once or not at all."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from fleet.models import AuditEntry, FrameGroup
from ota.domain.plan import Plan, of_shares
from ota.models import Deployment, DesiredState, Release, Rollout, RolloutEvent
from ota.services import director, effects, membership, offers, rollouts
from tests.ota.world import commit, enrol, offered

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rollout(release_1_0: Release, release_1_1: Release, zh: FrameGroup) -> Rollout:
    director.set_desired(enrol(20), release_1_0)
    return rollouts.start(release_1_1, zh, [0.5, 1.0], "li", "")


def everything() -> Any:
    """All that a decision writes."""
    return (
        list(Rollout.objects.order_by("pk").values("pk", "state", "revision", "current_stage", "reason")),
        list(Deployment.objects.order_by("pk").values_list("pk", "state", "desired_version", "attempts")),
        list(DesiredState.objects.order_by("pk").values_list("pk", "version", "release")),
        RolloutEvent.objects.count(),
        AuditEntry.objects.count(),
    )


class Died(Exception):
    """The worker is gone."""


@pytest.mark.parametrize(
    ("where", "name"),
    [(effects, "note"), (director, "set_desired"), (offers, "former_releases"), (membership, "enlist")],
)
def test_what_was_decided_and_not_finished_leaves_nothing_and_is_done_once_by_the_next_tick(
    rollout: Rollout, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    before = everything()
    real = getattr(where, name)

    def dies(*args: Any, **more: Any) -> Any:
        real(*args, **more)
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(where, name, dies)
        with pytest.raises(Died):
            rollouts.tick(rollout.pk)
        assert rollouts.tick_all() == 0, "logged, and no other rollout is held up"
    assert everything() == before

    assert rollouts.tick(rollout.pk)
    assert not rollouts.tick(rollout.pk)
    rollout.refresh_from_db()
    assert rollout.current_stage == 1
    assert {row.attempts for row in offered(rollout)} == {1}
    assert rollout.events.filter(kind="stage_opened").count() == 1


@pytest.mark.parametrize("kind", ["abort", "rollback"])
def test_a_command_that_dies_halfway_can_be_given_again(
    rollout: Rollout, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    rollouts.tick(rollout.pk)
    commit(rollout)
    rollout.refresh_from_db()
    before, seen = everything(), str(rollout.revision)

    def dies(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(effects, "note", dies)
        with pytest.raises(Died):
            rollouts.command(rollout.pk, kind, seen, "li", "harm")
    assert everything() == before
    rollouts.command(rollout.pk, kind, seen, "li", "harm")
    with pytest.raises(rollouts.Stale):
        rollouts.command(rollout.pk, kind, seen, "li", "harm")


def test_a_superseding_that_dies_halfway_ends_nothing(
    rollout: Rollout, release_1_1: Release, zh: FrameGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts.tick(rollout.pk)
    before = everything()

    def dies(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(membership, "enlist", dies)
        with pytest.raises(Died):
            rollouts.start(release_1_1, zh, [1.0], "li", "", supersede=[rollout.pk])
    assert everything() == before


def at_once(*work: Any) -> list[Any]:
    """Run all in threads of their own, started together; results or exceptions."""
    barrier = threading.Barrier(len(work))

    def run(one: Any) -> Any:
        try:
            barrier.wait(10)
            return one()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(run, work))


def test_two_people_who_press_different_buttons_at_once_are_told_who_came_first(rollout: Rollout) -> None:
    rollouts.tick(rollout.pk)
    rollout.refresh_from_db()
    seen = str(rollout.revision)
    kinds = ("pause", "advance", "abort", "rollback")
    results = at_once(*[lambda kind=kind: rollouts.command(rollout.pk, kind, seen, kind, "") for kind in kinds])
    assert sorted(type(result).__name__ for result in results) == ["Rollout", "Stale", "Stale", "Stale"]
    winner = next(kind for kind, result in zip(kinds, results, strict=True) if isinstance(result, Rollout))
    assert list(rollout.events.exclude(actor__in=("engine", "li")).values_list("actor", flat=True)) == [winner]


def test_rollouts_that_outrank_and_supersede_each_other_neither_lock_up_nor_share_a_frame(
    rollout: Rollout, release_1_0: Release, release_1_1: Release, zh: FrameGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "ENLIST_EVERY", -membership.ENLIST_EVERY)
    everybody = FrameGroup.objects.create(name="all", query="")
    enrol(20, "en", "en")
    plan = Plan(stages=of_shares([0.5, 1.0]).stages, priority=3)
    for begin in (
        lambda: rollouts.start(release_1_0, zh, [1.0], "chen", "", supersede=[rollout.pk]),
        lambda: rollouts.start(release_1_1, everybody, plan, "wang", ""),
    ):
        results = at_once(*[lambda: rollouts.tick_all()] * 3, begin)
        assert [type(result).__name__ for result in results] == ["int"] * 3 + ["Rollout"]
    for _ in range(3):
        at_once(*[lambda: rollouts.tick_all()] * 3)
    rollout.refresh_from_db()
    assert rollout.state == "aborted"
    under_way = Deployment.objects.filter(rollout__state="running", stage__isnull=False)
    frames = list(under_way.values_list("frame_id", flat=True))
    assert len(frames) == len(set(frames)) == 40


@pytest.mark.slow
def test_a_worker_killed_between_decision_and_action_leaves_nothing(rollout: Rollout, var: Path) -> None:
    """A process of its own, killed with SIGKILL when it has decided, offered everything and not committed."""
    before = everything()
    script = textwrap.dedent(f"""
        import time
        import django
        django.setup()
        from ota.services import offers, rollouts
        offer_due = offers.offer_due
        def stop(*args):
            print(offer_due(*args), flush=True)
            time.sleep(60)
        offers.offer_due = stop
        rollouts.tick({rollout.pk})
    """)
    there = connection.settings_dict
    url = f"postgresql://{there['USER']}:{there['PASSWORD']}@{there['HOST']}:{there['PORT']}/{there['NAME']}"
    worker = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "DATABASE_URL": url, "FRAMEFLEET_VAR": str(var)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stdout is not None
        assert int(worker.stdout.readline()) > 0, "the frames were offered the release, in a transaction"
        assert not rollouts.tick(rollout.pk), "who finds it held leaves it alone"
    finally:
        worker.kill()
        worker.wait(10)
    assert everything() == before
    deadline = time.monotonic() + 10
    while not rollouts.tick(rollout.pk):
        assert time.monotonic() < deadline, "PostgreSQL lets go of what the dead one held"
        time.sleep(0.05)
    assert {row.attempts for row in offered(rollout)} == {1}
    assert rollout.events.filter(kind="stage_opened").count() == 1
