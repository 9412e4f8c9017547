"""When, how much and what frames may download travels in their DesiredState."""

from typing import Any

import pytest
from django.test import Client as Browser
from django.utils import timezone
from msgspec import UNSET

from fleet.groups import frames_in
from fleet.models import FrameGroup
from fleet.services.groups import parse_hours, set_transfer
from ota.models import DesiredState, Release
from ota.services import director, rollouts
from ota.services.transfer import lacking
from protocol.codec import decode
from protocol.envelope import Envelope
from protocol.errors import Refused
from protocol.messages import DesiredState as Message
from protocol.messages import TransferPolicy
from tests.ota.world import Enrol, publish_all, report

pytestmark = pytest.mark.django_db


def policy_of(frame_id: str) -> Any:
    envelope = decode(bytes(DesiredState.objects.get(pk=frame_id).envelope), Envelope)
    return decode(envelope.payload, Message).transfer


def offer(release: Release, group: FrameGroup, **how: Any) -> None:
    rollouts.start(release, group, [1.0], "li", "", **how)
    rollouts.tick_all()


def test_a_rollout_carries_its_groups_hours_and_budget(release_1_1: Release, zh: FrameGroup, frames: Enrol) -> None:
    (frame,) = frames(1)
    set_transfer(zh, parse_hours("22:00-06:30"), 200, "li")
    offer(release_1_1, zh)
    assert policy_of(frame) == TransferPolicy(quiet_from=1_320, quiet_to=390, daily_bytes=200_000_000, base_model=False)


def test_a_new_policy_reaches_frames_that_have_their_desired_state(
    release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    ids = frames(3)
    offer(release_1_1, zh, base_model=True)
    before = director.desired_versions(ids)
    assert director.refresh(timezone.now()) == 0
    set_transfer(zh, None, 50, "li")
    assert director.refresh(timezone.now(), limit=2) == 2
    assert director.refresh(timezone.now()) == 1
    assert director.refresh(timezone.now()) == 0
    assert director.desired_versions(ids) == {frame: version + 1 for frame, version in before.items()}
    assert policy_of(ids[0]) == TransferPolicy(daily_bytes=50_000_000, base_model=True)


def test_going_back_is_held_to_the_same_terms(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    (frame,) = frames(1)
    director.set_desired([frame], release_1_0)
    assert policy_of(frame) is UNSET
    set_transfer(zh, None, 50, "li")
    offer(release_1_1, zh)
    rollout = zh.rollouts.get()
    rollouts.command(rollout.pk, "rollback", str(rollout.revision), "li", "")
    assert DesiredState.objects.get().release == release_1_0
    assert policy_of(frame) == TransferPolicy(daily_bytes=50_000_000, base_model=False)


def test_frames_are_told_where_else_artifacts_lie(
    release_1_1: Release, zh: FrameGroup, frames: Enrol, settings: Any
) -> None:
    (frame,) = frames(1)
    settings.FRAMEFLEET_ARTIFACT_URL = "https://cdn.example/artifacts"
    offer(release_1_1, zh)
    assert policy_of(frame).http == "https://cdn.example/artifacts"


def test_most_frames_must_have_the_base_model_or_be_allowed_to_fetch_it(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    ids = frames(5)
    for frame in ids[:2]:
        report(frame, "committed", release_1_0.digest)
    report(ids[2], "idle", None)
    found = lacking(release_1_1, frames_in(zh))
    assert found is not None
    assert (found.count, found.frames) == (1, 3)
    for frame in ids[3:]:
        report(frame, "idle", None)
    with pytest.raises(rollouts.NotAllowed, match=r"3 of 5 frames of the group .* lack base/.*--with-base-model"):
        rollouts.start(release_1_1, zh, [1.0], "li", "")
    rollout = rollouts.start(release_1_1, zh, [1.0], "li", "", base_model=True)
    assert rollout.events.get().detail["base_model"] is True


@pytest.mark.parametrize("text", ["8:00-22:00", "08:00", "24:00-06:00", "08:00-08:00", "08:00-22:60", "a-b"])
def test_odd_quiet_hours_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_hours(text)


@pytest.mark.parametrize("budget", [0, -1, 10**9])
def test_odd_budgets_are_refused(zh: FrameGroup, budget: int) -> None:
    with pytest.raises(Refused):
        set_transfer(zh, None, budget, "li")


def test_bytes_of_published_releases_are_there_for_everybody_in_ranges(release_1_0: Release, client: Browser) -> None:
    artifact = release_1_0.artifacts.get(kind="base_model")
    path = f"/artifacts/{artifact.sha256}"
    assert client.get(path).status_code == 404, "the broker does not have it yet"
    publish_all()
    data = client.get(path).getvalue()
    assert len(data) == artifact.length
    part = client.get(path, headers={"Range": "bytes=65536-131071"})
    assert part.status_code == 206
    assert part.headers["Content-Range"] == f"bytes 65536-131071/{artifact.length}"
    assert part.getvalue() == data[65_536:131_072]
    assert client.get(path, headers={"Range": f"bytes={artifact.length}-"}).status_code == 416
    assert client.post(path).status_code == 405
    assert client.get(f"/artifacts/{'0' * 64}").status_code == 404
