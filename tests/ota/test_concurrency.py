"""Several ticks, commands, reports and publishers at once do what they would do one after the other."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction

from fleet.models import FrameGroup
from ota import publication, repository
from ota.models import DesiredState, Release, Rollout, TufDocument
from ota.services import director, rollouts
from tests.ota.offline import File, Offline, file
from tests.ota.world import commit, enrol, publish_all, push, report_all

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*work: Callable[[], Any]) -> list[Any]:
    """Run all in threads of their own, started together; results or exceptions."""
    barrier = threading.Barrier(len(work))

    def run(one: Callable[[], Any]) -> Any:
        try:
            barrier.wait(10)
            return one()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(run, work))


def test_many_ticks_open_a_stage_once(release_1_1: Release, zh: FrameGroup) -> None:
    enrol(60)
    rollout = rollouts.start(release_1_1, zh, [0.3, 1.0], "li", "")
    results = at_once(*[lambda: rollouts.tick(rollout.pk)] * 6)
    assert Counter(results)[True] >= 1
    assert not [result for result in results if isinstance(result, Exception)]
    assert rollout.events.filter(kind="stage_opened").count() == 1
    assert set(DesiredState.objects.values_list("version", flat=True)) == {1}


def test_of_two_commands_that_saw_the_same_state_one_is_done(release_1_1: Release, zh: FrameGroup) -> None:
    enrol(20)
    rollout = rollouts.start(release_1_1, zh, [0.3, 0.6, 1.0], "li", "")
    rollouts.tick(rollout.pk)
    rollout.refresh_from_db()
    seen = str(rollout.revision)
    results = at_once(*[lambda: rollouts.command(rollout.pk, "advance", seen, "li", "")] * 4)
    assert sorted(type(result).__name__ for result in results) == ["Rollout", "Stale", "Stale", "Stale"]
    assert Rollout.objects.get().current_stage == 2


def test_two_rollouts_cannot_begin_on_the_same_frames(release_1_1: Release, zh: FrameGroup) -> None:
    enrol(20)
    results = at_once(*[lambda: rollouts.start(release_1_1, zh, [1.0], "li", "")] * 4)
    assert sorted(type(result).__name__ for result in results) == ["NotAllowed"] * 3 + ["Rollout"]


def test_versions_only_grow_when_many_decide_at_once(release_1_0: Release, release_1_1: Release) -> None:
    ids = enrol(40)
    results = at_once(
        *[lambda: director.set_desired(ids, release_1_0), lambda: director.set_desired(ids, release_1_1)] * 3
    )
    assert not [result for result in results if isinstance(result, Exception)]
    for frame in ids:
        assert sorted(result[frame] for result in results) == [1, 2, 3, 4, 5, 6]


def test_of_two_pushes_of_the_same_version_one_is_taken(offline: Offline, base: File) -> None:
    first = offline.release("one", "1", [base])
    offline.documents["base"].signed.version -= 1
    offline.documents["release"].signed.version -= 1
    second = offline.release("two", "1", [file("base/two.bundle", b"two", "base_model")])
    results = at_once(lambda: push(first), lambda: push(second))
    assert sorted(type(result).__name__ for result in results) == ["Refused", "Release"]
    assert list(TufDocument.objects.filter(role="snapshot").order_by("version").values_list("version", flat=True)) == [
        1,
        2,
    ]


@pytest.mark.slow
def test_reports_publishing_and_ticks_at_once_neither_lock_up_nor_lose_anything(
    release_1_1: Release, zh: FrameGroup
) -> None:
    ids = enrol(150)
    publish_all()
    rollout = rollouts.start(release_1_1, zh, [0.3, 0.7, 1.0], "li", "")
    end = time.monotonic() + 90
    done = threading.Event()

    def until_done(step: Callable[[], Any]) -> None:
        while not done.is_set() and time.monotonic() < end:
            step()
            time.sleep(0.005)

    def engine() -> None:
        rollouts.tick_all()
        if Rollout.objects.get().state != "running":
            done.set()

    def publisher() -> None:
        publication.mark_published([one.token for one in publication.pending(50)])

    def frames() -> None:
        with transaction.atomic():
            for frame in reversed(ids[::7]):
                director.republish(frame)
            rows = DesiredState.objects.filter(published_version__gt=0).order_by("-frame_id")[:40]
            versions = dict(rows.values_list("frame_id", "version"))
            report_all(versions, "committed", release_1_1.digest, versions)

    def everybody() -> None:
        commit(rollout)

    steps = (engine, engine, publisher, frames, everybody, lambda: director.refresh(rollout.created_at))
    results = at_once(*[lambda step=step: until_done(step) for step in steps])

    assert [result for result in results if result is not None] == []
    assert Rollout.objects.get().state == "succeeded"
    assert set(director.desired_versions(ids)) == set(ids)
    publish_all()
    assert publication.backlog() == (0, 0)
    assert repository.is_set_up()
