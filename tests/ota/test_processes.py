"""The edges: Celery's tasks, the command, the gauges, and artifacts over an asynchronous server."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import cache
from django.core.management import call_command
from django.test import AsyncClient
from django.utils import timezone
from prometheus_client import generate_latest

from config.celery import app
from fleet.models import FrameGroup
from fleet.services.tokens import create_token
from ota import keys, tasks
from ota.models import DesiredState, Release, Rollout, TufDocument
from ota.services import artifacts, director, rollouts
from protocol.chunks import sha256_hex
from tests.fleet.factories import make_user
from tests.ota.world import Enrol

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _eager(settings: Any) -> Iterator[None]:
    """Tasks run where they are called."""
    cache.clear()
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def test_the_task_that_beat_sends_ticks_every_running_rollout(
    release_1_0: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(5)
    rollout = rollouts.start(release_1_0, zh, [1.0], "li", "")
    scheduled = app.conf.beat_schedule["tick"]["task"]
    app.loader.import_default_modules()
    app.tasks[scheduled].delay()
    assert Rollout.objects.get(pk=rollout.pk).current_stage == 1


def test_what_comes_near_its_expiry_is_renewed(release_1_0: Release, frames: Enrol) -> None:
    ids = frames(3)
    director.set_desired(ids, release_1_0)
    soon = timezone.now() + dt.timedelta(hours=1)
    DesiredState.objects.update(renew_at=timezone.now())
    TufDocument.objects.filter(role="timestamp").update(expires_at=soon)
    tasks.tick()
    assert set(director.desired_versions(ids).values()) == {2}
    assert DesiredState.objects.all()[0].expires_at > timezone.now() + dt.timedelta(hours=23)


def test_online_keys_are_made_by_the_command_and_stay(
    settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.FRAMEFLEET_VAR = tmp_path / "fresh"
    call_command("online_keys")
    before = keys.public_keys()
    call_command("online_keys")
    assert keys.public_keys() == before
    assert capsys.readouterr().out.splitlines()[-1] == "All online keys exist."


def test_prometheus_reads_the_backlog_and_the_time_left(release_1_0: Release, frames: Enrol) -> None:
    director.set_desired(frames(3), release_1_0)
    text = generate_latest().decode()
    assert 'framefleet_publication_backlog{kind="desired"} 3.0' in text
    assert 'framefleet_seconds_to_expiry{document="timestamp"} 86' in text


@pytest.mark.django_db(transaction=True)
def test_an_asynchronous_server_streams_an_artifact_piece_by_piece() -> None:
    data = bytes(range(256)) * 10_000  # more than two pieces

    @async_to_sync
    async def get() -> tuple[int, list[bytes]]:
        await sync_to_async(artifacts.store)(sha256_hex(data), [data])
        user = await sync_to_async(make_user)("li")
        token = await sync_to_async(create_token)(user, "test")
        answer: Any = await AsyncClient().get(
            f"/api/v1/artifacts/{sha256_hex(data)}/", headers={"Authorization": f"Token {token}"}
        )
        assert answer.is_async
        return answer.status_code, [piece async for piece in answer]

    status, pieces = get()
    assert status == 200
    assert b"".join(pieces) == data
    assert len(pieces) == 3
