"""The REST API as framectl uses it: push, publish, start, watch, steer; every error is one sentence."""

import base64
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from fleet.models import FrameGroup
from fleet.services.tokens import create_token
from ota.models import Release, Rollout
from ota.services import rollouts
from ota.serving import byte_range
from protocol.chunks import sha256_hex
from protocol.repository import DELEGATIONS
from tests.fleet.factories import make_user
from tests.ota.offline import File, Offline, Push
from tests.ota.world import Enrol, commit, fail, offered, publish_all

pytestmark = pytest.mark.django_db

API = "/api/v1/"


@pytest.fixture
def api() -> APIClient:
    user = make_user("li")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {create_token(user, 'test')}")
    return client


def put(api: APIClient, data: bytes, sha256: str | None = None) -> Any:
    body: Any = data  # the client takes bytes too, whatever its types say
    return api.generic("PUT", f"{API}artifacts/{sha256 or sha256_hex(data)}/", body, "application/octet-stream")


def push(api: APIClient, what: Push) -> Any:
    for one in what.files:
        assert put(api, one.data).status_code == 201
    body = {"manifest": base64.b64encode(what.manifest).decode(), "documents": what.documents}
    return api.post(f"{API}releases/", body, format="json")


def detail(response: Any, status: int) -> str:
    assert response.status_code == status, response.content
    body = response.json()
    assert body["detail"].endswith(".")
    return str(body["detail"])


@pytest.mark.parametrize(
    "path", ["online-keys/", "repository/", "releases/", "rollouts/", "artifacts/" + "0" * 64 + "/", "rollouts/1/"]
)
def test_nobody_gets_in_without_a_token(path: str) -> None:
    assert APIClient().get(API + path).status_code == 401


def test_from_the_first_document_to_a_finished_rollout(
    api: APIClient, base: File, frames: Enrol, zh: FrameGroup
) -> None:
    frames(30)
    online = api.get(f"{API}online-keys/").json()
    assert set(online) == {"snapshot", "timestamp", "director"}
    assert set(online["director"]) == {"keyid", "key"}

    folder = Offline()
    answer = api.post(f"{API}repository/", {"documents": folder.first()}, format="json")
    assert answer.status_code == 201
    assert set(api.get(f"{API}repository/").json()["documents"]) >= {"root", "director-root", "targets", *DELEGATIONS}

    answer = push(api, folder.release("talking-portrait", "1.0", [base]))
    assert answer.status_code == 201, answer.content
    release = api.get(f"{API}releases/talking-portrait/1.0/").json()
    assert release == answer.json()
    assert (release["published_at"], release["publication"]) == (None, {"published": 0, "total": 6})
    assert {one["kind"] for one in release["artifacts"]} == {"base_model", "release"}
    publish_all()
    release = api.get(f"{API}releases/talking-portrait/1.0/").json()
    assert release["published_at"] is not None
    assert release["publication"] == {"published": 6, "total": 6}

    body = {"release": "talking-portrait 1.0", "group": "zh", "stages": [0.2, 1.0], "reason": "first"}
    answer = api.post(f"{API}rollouts/", body, format="json")
    assert answer.status_code == 201, answer.content
    pk = answer.json()["id"]
    for _ in range(6):
        rollouts.tick_all()
        commit(Rollout.objects.get(pk=pk))
    shown = api.get(f"{API}rollouts/{pk}/").json()
    assert shown["state"] == "succeeded"
    assert (shown["release"], shown["group"], shown["committed"], shown["frames"]) == (
        "talking-portrait 1.0",
        "zh",
        30,
        30,
    )
    assert [stage["counts"]["committed"] for stage in shown["stages"]] == [stage["frames"] for stage in shown["stages"]]
    assert all(stage["opened_at"] and stage["completed_at"] for stage in shown["stages"])
    assert shown["events"][0]["actor"] == "li"
    assert shown["events"][-1]["kind"] == "succeeded"


def test_commands_carry_what_the_caller_saw(
    api: APIClient, release_1_0: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(10)
    pk = rollouts.start(release_1_0, zh, [0.5, 1.0], "li", "").pk
    rollouts.tick(pk)
    seen = api.get(f"{API}rollouts/{pk}/").json()["seen_state"]
    answer = api.post(f"{API}rollouts/{pk}/advance/", {"seen_state": seen, "reason": "go"}, format="json")
    assert answer.status_code == 200
    assert answer.json()["current_stage"] == 2
    again = api.post(f"{API}rollouts/{pk}/advance/", {"seen_state": seen, "reason": "go"}, format="json")
    assert "moved on" in detail(again, 409)

    seen = answer.json()["seen_state"]
    assert "is not possible" in detail(
        api.post(f"{API}rollouts/{pk}/resume/", {"seen_state": seen}, format="json"), 409
    )
    assert api.post(f"{API}rollouts/{pk}/abort/", {"seen_state": seen}, format="json").json()["state"] == "aborted"


def test_failures_are_shown_by_reason_with_the_frames_sentence(
    api: APIClient, release_1_0: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(10)
    rollout = rollouts.start(release_1_0, zh, [1.0], "li", "")
    rollouts.tick(rollout.pk)
    fail(offered(rollout)[0], "The disk is full: 3 MB are missing.")
    (failure,) = api.get(f"{API}rollouts/{rollout.pk}/").json()["failures"]
    assert (failure["reason"], failure["frames"]) == ("disk_full", 1)
    assert failure["examples"][0]["detail"] == "The disk is full: 3 MB are missing."


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "lacks"),
        ([], "JSON object"),
        ({"release": 3, "group": "zh", "stages": [1]}, "must be a text"),
        ({"release": "nothing 1", "group": "zh", "stages": [1]}, "There is no release"),
        ({"release": "talking-portrait 1.0", "group": "nobody", "stages": [1]}, "There is no group"),
        ({"release": "talking-portrait 1.0", "group": "zh", "stages": "5"}, "must be a list"),
        ({"release": "talking-portrait 1.0", "group": "zh", "stages": ["5"]}, "list of shares"),
        ({"release": "talking-portrait 1.0", "group": "zh", "stages": [5]}, "write 5 % as 0.05"),
        ({"release": "talking-portrait 1.0", "group": "zh", "stages": [1], "reason": "x" * 501}, "at most 500"),
        ({"release": "talking-portrait 1.0", "group": "z\0h", "stages": [1]}, "NUL"),
    ],
)
def test_a_rollout_that_makes_no_sense_is_refused(
    body: object, sentence: str, api: APIClient, release_1_0: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(2)
    assert sentence in detail(api.post(f"{API}rollouts/", body, format="json"), 400)
    assert not Rollout.objects.exists()


def test_what_is_not_there_is_404(api: APIClient) -> None:
    for path in ("rollouts/99/", "releases/a/1/", "artifacts/" + "0" * 64 + "/"):
        detail(api.get(API + path), 404)
    detail(api.post(f"{API}rollouts/99/pause/", {"seen_state": "1"}, format="json"), 404)
    detail(api.post(f"{API}rollouts/99/explode/", {"seen_state": "1"}, format="json"), 404)


def test_a_refused_push_says_why_in_one_sentence(api: APIClient, offline: Offline, base: File) -> None:
    what = offline.release("talking-portrait", "1.0", [base])
    body = {"manifest": base64.b64encode(what.manifest).decode(), "documents": what.documents}
    assert "upload them first" in detail(api.post(f"{API}releases/", body, format="json"), 400)
    assert "base64" in detail(api.post(f"{API}releases/", {**body, "manifest": "%%%"}, format="json"), 400)
    assert "must be an object" in detail(api.post(f"{API}releases/", {**body, "documents": []}, format="json"), 400)


def test_artifacts_come_back_whole_and_in_parts(api: APIClient) -> None:
    data = bytes(range(256)) * 1000
    path = f"{API}artifacts/{sha256_hex(data)}/"
    assert put(api, data).status_code == 201
    assert put(api, data).status_code == 200

    whole: Any = api.get(path)
    assert b"".join(whole.streaming_content) == data
    assert (whole["Content-Length"], whole["Accept-Ranges"]) == (str(len(data)), "bytes")
    part: Any = api.get(path, headers={"Range": "bytes=1000-1999"})
    assert part.status_code == 206
    assert b"".join(part.streaming_content) == data[1000:2000]
    assert part["Content-Range"] == f"bytes 1000-1999/{len(data)}"
    assert api.get(path, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
    head = api.head(path)
    assert head.status_code == 200
    assert head["Content-Length"] == str(len(data))


def test_bytes_under_a_wrong_name_are_refused(api: APIClient) -> None:
    assert "send the file again" in detail(put(api, b"bytes", "0" * 64), 400)
    assert "at least one byte" in detail(put(api, b"", sha256_hex(b"")), 400)
    assert "64 lower-case hex digits" in detail(put(api, b"bytes", "XYZ"), 400)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", (0, 100)),
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=50-1000", (50, 100)),
        ("bytes=100-", None),
        ("bytes=9-3", None),
        ("bytes=-0", None),
        ("bytes=0-1,5-6", (0, 100)),
        ("lines=1-2", (0, 100)),
        ("bytes=-", (0, 100)),
    ],
)
def test_ranges(header: str, expected: tuple[int, int] | None) -> None:
    assert byte_range(header, 100) == expected


def test_lists_come_in_pages_newest_first(api: APIClient, release_1_1: Release, zh: FrameGroup, frames: Enrol) -> None:
    frames(4)
    for _ in range(3):
        rollout = rollouts.start(release_1_1, zh, [1.0], "li", "")
        rollouts.command(rollout.pk, "abort", str(rollout.revision), "li", "")
    first = api.get(f"{API}rollouts/", {"limit": 2}).json()
    second = api.get(f"{API}rollouts/", {"limit": 2, "cursor": first["next"]}).json()
    ids = [row["id"] for row in first["results"] + second["results"]]
    assert ids == sorted(ids, reverse=True)
    assert (len(ids), second["next"]) == (3, None)

    first = api.get(f"{API}releases/", {"limit": 1}).json()
    second = api.get(f"{API}releases/", {"limit": 1, "cursor": first["next"]}).json()
    assert [row["version"] for row in first["results"] + second["results"]] == ["1.1", "1.0"]
    assert second["next"] is None
    for query in ({"limit": "x"}, {"limit": 0}, {"cursor": "'"}):
        detail(api.get(f"{API}releases/", query), 400)
        detail(api.get(f"{API}rollouts/", query), 400)


def test_a_commanded_rollout_shows_when_it_ended(
    api: APIClient, release_1_0: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(4)
    rollout = rollouts.start(release_1_0, zh, [1.0], "li", "")
    answer = api.post(
        f"{API}rollouts/{rollout.pk}/abort/", {"seen_state": str(rollout.revision), "reason": "no"}, format="json"
    ).json()
    assert answer["ended_at"] is not None
    assert answer["reason"] == "no"
    ended_at = Rollout.objects.get().ended_at
    assert ended_at is not None
    assert timezone.now() - ended_at < timedelta(minutes=1)
