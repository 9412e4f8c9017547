"""Why a frame is as it is, and keeping the engine's hands off one frame or all, over REST."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from fleet.models import FrameGroup
from fleet.permissions import Role
from fleet.services.tokens import create_token
from ota.domain.deployment import DeploymentState
from ota.models import DesiredState, Pin, Release, Rollout
from ota.selectors import rollout_detail
from ota.services import rollouts
from tests.fleet.factories import make_user
from tests.ota.world import Enrol, commit, offered, report

pytestmark = pytest.mark.django_db

API = "/api/v1/"


def client(name: str = "li", role: Role = Role.ADMIN) -> APIClient:
    found = APIClient()
    found.credentials(HTTP_AUTHORIZATION=f"Token {create_token(make_user(name, role), 'test')}")
    return found


@pytest.fixture
def api() -> APIClient:
    return client()


@pytest.fixture
def rollout(release_1_0: Release, zh: FrameGroup, frames: Enrol) -> Rollout:
    """The first half of twenty frames is offered the release."""
    frames(20)
    begun = rollouts.start(release_1_0, zh, [0.5, 1.0], "li", "")
    rollouts.tick(begun.pk)
    return Rollout.objects.get(pk=begun.pk)


def refused(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.content
    sentence = answer.json()["detail"]
    assert sentence.endswith(".")
    return str(sentence)


def test_a_frame_is_explained_with_its_place_in_the_rollout_and_its_past(api: APIClient, rollout: Rollout) -> None:
    row = offered(rollout)[0]
    found = api.get(f"{API}rollouts/{rollout.pk}/explain/{row.frame_id}/").json()
    assert (found["code"], found["release"]) == ("frame_offered", "talking-portrait 1.0")
    assert found["sentence"] == f"Frame {row.frame_id} was offered the release; its state: offered."
    assert (found["deployment"]["stage"], found["deployment"]["attempts"]) == (1, 1)
    assert (found["standing"]["desired"], found["standing"]["reported"]) == ("talking-portrait 1.0", None)
    assert [one["rollout"] for one in found["standing"]["deployments"]] == [rollout.pk]
    other = rollout.deployments.filter(stage=2)[0].frame_id
    assert api.get(f"{API}rollouts/{rollout.pk}/explain/{other}/").json()["code"] == "frame_control"


def test_who_is_not_in_the_group_or_not_there_at_all_is_told_so(
    api: APIClient, rollout: Rollout, frames: Enrol
) -> None:
    (stranger,) = frames(1, "en", "en")
    found = api.get(f"{API}rollouts/{rollout.pk}/explain/{stranger}/").json()
    assert (found["code"], found["deployment"]) == ("frame_not_in_group", None)
    assert "There is no frame" in refused(api.get(f"{API}rollouts/{rollout.pk}/explain/nobody/"), 404)
    assert "There is no rollout" in refused(api.get(f"{API}rollouts/99/explain/{stranger}/"), 404)
    assert "There is no frame" in refused(api.get(f"{API}frames/nobody/standing/"), 404)


def test_drift_is_counted_once_frames_have_had_their_time(api: APIClient, rollout: Rollout) -> None:
    first, second, *_ = offered(rollout)
    shown = api.get(f"{API}rollouts/{rollout.pk}/").json()["drift"]
    assert (shown["frames"], shown["under_way"]) == (0, len(offered(rollout)))
    commit(rollout)
    assert api.get(f"{API}rollouts/{rollout.pk}/").json()["drift"] == {"frames": 0, "under_way": 0, "examples": []}
    report(first.frame_id, "idle", "f" * 64)
    shown = api.get(f"{API}rollouts/{rollout.pk}/").json()["drift"]
    assert shown["frames"] == 1
    assert shown["examples"] == [
        {"frame_id": first.frame_id, "desired": rollout.release_id, "reported": "f" * 64, "state": "idle"}
    ]
    assert api.get(f"{API}frames/{first.frame_id}/standing/").json()["drifted"] is True
    assert api.get(f"{API}frames/{second.frame_id}/standing/").json()["drifted"] is False
    report(second.frame_id, "idle", "e" * 64)
    page = api.get(f"{API}drift/?limit=1").json()
    assert [row["frame_id"] for row in page["results"]] == [first.frame_id]
    rest = api.get(f"{API}drift/?limit=1&cursor={page['next']}").json()
    assert ([row["frame_id"] for row in rest["results"]], rest["next"]) == ([second.frame_id], None)


def test_frames_that_cannot_go_back_are_listed(api: APIClient, rollout: Rollout) -> None:
    commit(rollout)
    stay = {row.frame_id for row in offered(rollout)}
    rollouts.command(rollout.pk, "rollback", str(Rollout.objects.get().revision), "li", "lips")
    rollouts.tick(rollout.pk)
    shown = api.get(f"{API}rollouts/{rollout.pk}/").json()
    assert (shown["stranded"]["frames"], set(shown["stranded"]["examples"])) == (len(stay), stay)


def test_what_a_rollout_waits_for_is_said(api: APIClient, rollout: Rollout) -> None:
    waiting = api.get(f"{API}rollouts/{rollout.pk}/").json()["waiting"]
    assert waiting["code"] == "waits_frames"
    assert "have not answered yet" in waiting["sentence"]
    api.post(f"{API}rollouts/freeze/", {"reason": "the singing season"}, format="json")
    waiting = api.get(f"{API}rollouts/{rollout.pk}/").json()["waiting"]
    assert (waiting["code"], waiting["parameters"]) == ("waits_frozen", {"reason": "the singing season"})
    rollouts.command(rollout.pk, "pause", str(Rollout.objects.get().revision), "li", "lunch")
    assert rollout_detail(Rollout.objects.get()).waiting is None


def test_a_pinned_frame_keeps_what_it_is_given_until_it_is_unpinned(
    api: APIClient, rollout: Rollout, release_1_1: Release
) -> None:
    frame = offered(rollout)[0].frame_id
    where = f"{API}frames/{frame}/pin/"
    made = api.post(where, {"reason": "at the museum", "release": "talking-portrait 1.1"}, format="json")
    assert made.status_code == 201, made.content
    assert (made.json()["release"], made.json()["by"]) == ("talking-portrait 1.1", "li")
    assert DesiredState.objects.get(pk=frame).release_id == release_1_1.digest
    standing = api.get(f"{API}frames/{frame}/standing/").json()
    assert (standing["pin"]["reason"], standing["desired"]) == ("at the museum", "talking-portrait 1.1")
    assert standing["deployments"][0]["state"] == DeploymentState.PENDING
    assert api.delete(where).status_code == 204
    assert not Pin.objects.exists()
    assert "not pinned" in refused(api.delete(where), 409)


def test_a_pin_needs_a_reason_a_release_that_exists_and_a_frame(api: APIClient, rollout: Rollout) -> None:
    where = f"{API}frames/{offered(rollout)[0].frame_id}/pin/"
    assert "reason" in refused(api.post(where, {}, format="json"), 400)
    assert "no release" in refused(api.post(where, {"reason": "x", "release": "none 1"}, format="json"), 400)
    assert "There is no frame" in refused(api.post(f"{API}frames/nobody/pin/", {"reason": "x"}, format="json"), 404)


def test_a_freeze_stands_until_somebody_who_may_start_rollouts_lifts_it(api: APIClient, rollout: Rollout) -> None:
    operator = client("op", Role.OPERATOR)
    assert api.get(f"{API}rollouts/freeze/").json() == {"freeze": None}
    assert "reason" in refused(operator.post(f"{API}rollouts/freeze/", {}, format="json"), 400)
    made = operator.post(f"{API}rollouts/freeze/", {"reason": "outage"}, format="json")
    assert made.status_code == 201
    assert made.json()["freeze"]["by"] == "op"
    assert "outage" in refused(operator.post(f"{API}rollouts/freeze/", {"reason": "again"}, format="json"), 409)
    assert "releaser" in refused(operator.post(f"{API}rollouts/lift/", {}, format="json"), 403)
    assert api.post(f"{API}rollouts/lift/", {"reason": "over"}, format="json").json() == {"freeze": None}
    refused(api.post(f"{API}rollouts/lift/", {}, format="json"), 409)


def test_a_viewer_reads_all_of_it_and_changes_nothing(rollout: Rollout) -> None:
    viewer, frame = client("vi", Role.VIEWER), offered(rollout)[0].frame_id
    for path in (f"rollouts/{rollout.pk}/explain/{frame}/", f"frames/{frame}/standing/", "drift/", "rollouts/freeze/"):
        assert viewer.get(API + path).status_code == 200
    for path in (f"frames/{frame}/pin/", "rollouts/freeze/", "rollouts/lift/"):
        assert viewer.post(API + path, {"reason": "x"}, format="json").status_code == 403
