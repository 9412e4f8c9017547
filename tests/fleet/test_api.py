"""Frames and groups over REST: tokens only, JSON only, one sentence for every error."""

from typing import Any

import pytest
from django.test import Client

from fleet.services.ingest import ingest
from fleet.services.reports import record_reported
from fleet.services.tokens import create_token
from protocol.errors import Reason
from protocol.messages import Failure
from tests.fleet.factories import RELEASE, batch, health, make_frame, make_user, reported

pytestmark = pytest.mark.django_db


class Api:
    """The REST API as alice."""

    def __init__(self) -> None:
        token = create_token(make_user(), "test")
        self._client = Client(headers={"authorization": f"Token {token}"})

    def get(self, path: str, expect: int = 200, /, **query: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", query)
        assert answer.status_code == expect, answer.content
        return answer.json()

    def post(self, path: str, data: object, expect: int = 201) -> Any:
        answer = self._client.post(f"/api/v1/{path}", data, content_type="application/json")
        assert answer.status_code == expect, answer.content
        return answer.json()


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ({}, "Send an API token: Authorization: Token <token> (manage.py create_api_token makes one)."),
        ({"authorization": "Token guess"}, "This API token is unknown or has expired: make a new one."),
        ({"authorization": "Token a b"}, "Send one token: Authorization: Token <token>."),
    ],
)
def test_nothing_is_shown_without_a_token(header: dict[str, str], sentence: str) -> None:
    answer = Client(headers=header).get("/api/v1/frames/")
    assert answer.status_code == 401
    assert answer.json() == {"detail": sentence}


def test_frames_come_with_what_they_say(api: Api) -> None:
    make_frame("a", simulated=True)
    make_frame("b")
    record_reported("b", reported("b", state="reverted", failure=Failure(Reason.TRIAL_FAILED, "It missed its limit.")))
    silent, speaking = api.get("frames/")["results"]
    assert (silent["id"], silent["simulated"], silent["release"], silent["reported"]) == ("a", True, None, None)
    assert speaking["release"] == RELEASE
    assert speaking["failure"] == {"reason": "trial_failed", "detail": "It missed its limit."}
    assert speaking["lip_errors"][0]["lip_mm"] == 0.34
    assert speaking["figures"] == speaking["reported"]["figures"] == {"step_p99_ms": 4.5, "playbacks": 1.0}
    assert speaking["reported"]["slot"] == "A"
    assert speaking["last_seen"].endswith("Z")


def test_frames_can_be_asked_for_by_group_release_state_and_part_of_their_id(api: Api) -> None:
    make_frame("hall-1", locale="zh")
    make_frame("hall-2", locale="en")
    make_frame("attic-1", locale="zh")
    record_reported("hall-1", reported("hall-1"))
    api.post("groups/", {"name": "mandarin", "query": "locale=zh"})

    def ids(**query: str) -> list[str]:
        return [frame["id"] for frame in api.get("frames/", **query)["results"]]

    assert ids(group="mandarin") == ["attic-1", "hall-1"]
    assert ids(q="hall") == ["hall-1", "hall-2"]
    assert ids(release=RELEASE) == ["hall-1"]
    assert ids(release="") == ["attic-1", "hall-2"]
    assert ids(state="committed", group="mandarin") == ["hall-1"]
    assert api.get("frames/", 404, group="nobody") == {"detail": "There is no group 'nobody': see groups/."}


def test_long_lists_come_in_pages(api: Api) -> None:
    for number in range(5):
        make_frame(f"f{number}")
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.get("frames/", limit="2", cursor=cursor)
        assert len(page["results"]) <= 2
        seen += [frame["id"] for frame in page["results"]]
        cursor = page["next"]
    assert seen == ["f0", "f1", "f2", "f3", "f4"]
    assert api.get("frames/", 400, limit="0") == {"detail": "limit=0 is no page size: use 1 to 1000."}


def test_one_frame_shows_its_newest_ten_health_events(api: Api) -> None:
    make_frame()
    ingest([("frame-1", batch(*(health(seq, detail=f"number {seq}") for seq in range(1, 13))))])
    frame = api.get("frames/frame-1/")
    assert [event["detail"] for event in frame["health_events"]] == [f"number {seq}" for seq in range(12, 2, -1)]
    assert api.get("frames/nobody/", 404) == {"detail": "There is no frame 'nobody': see frames/."}


def test_groups_are_made_and_listed_with_their_size(api: Api) -> None:
    make_frame(locale="zh")
    made = api.post("groups/", {"name": "mandarin", "query": "locale=zh"})
    bounds = {"quiet_hours": "", "daily_mb": None}
    assert made == {"name": "mandarin", "query": "locale=zh", "frames": 1, **bounds}
    assert api.get("groups/") == {"results": [made], "next": None}
    assert api.get("groups/", name="other")["results"] == []


@pytest.mark.parametrize(
    ("data", "status", "sentence"),
    [
        ({"name": "mandarin", "query": ""}, 409, "There is a group 'mandarin' already: choose another name."),
        ({"name": "x", "query": "colour=red"}, 400, "A group cannot ask for 'colour': use"),
        ({"name": "x", "query": 5}, 400, "Send name and query as text"),
        ({"query": ""}, 400, "Send name and query as text"),
        ([1], 400, "Send an object"),
        ("{", 400, "The body is not JSON"),
    ],
)
def test_a_wrong_group_is_refused_with_one_sentence(api: Api, data: object, status: int, sentence: str) -> None:
    api.post("groups/", {"name": "mandarin", "query": "locale=zh"})
    refused = api.post("groups/", data, status)
    assert refused["detail"].startswith(sentence)


def test_an_address_that_does_not_exist_is_said_in_json(api: Api) -> None:
    assert api.get("nonsense/", 404)["detail"].startswith("There is nothing at /api/v1/nonsense/")
