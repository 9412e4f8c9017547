"""Whatever is wrong with a request: one sentence, never a stack trace, never a page made for developers."""

from typing import Any
from unittest import mock

import pytest
from django.db import InterfaceError, OperationalError
from django.test import Client

from fleet.services.tokens import create_token
from tests.fleet.factories import make_user

pytestmark = pytest.mark.django_db

JSON = "application/json"


@pytest.fixture
def api() -> Client:
    return Client(
        raise_request_exception=False,
        headers={"authorization": f"Token {create_token(make_user(), 'test')}"},
    )


def detail(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == JSON
    found = answer.json()["detail"]
    assert isinstance(found, str)
    assert "Traceback" not in found
    return found


@pytest.mark.parametrize(
    "address",
    [
        "groups/?cursor=%00", "groups/?name=%00", "frames/?cursor=%00", "frames/%00/", "releases/%00/1/",
        "releases/?cursor=%00", "rollouts/?cursor=%00", "artifacts/%00/",
    ],
)  # fmt: skip
def test_an_address_with_a_nul_is_refused(api: Client, address: str) -> None:
    assert "NUL" in detail(api.get(f"/api/v1/{address}"), 400)


@pytest.mark.parametrize("kind", ["frames", "groups", "releases", "rollouts"])
@pytest.mark.parametrize("limit", ["0", "-1", "x", "1" * 5000, "0" * 8 + "5" + "1" * 5000, "00000000059999", "٣"])
def test_a_limit_is_a_small_number(api: Client, kind: str, limit: str) -> None:
    assert "is no page size" in detail(api.get(f"/api/v1/{kind}/", {"limit": limit}), 400)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"hello", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"release": "\\ud800 1", "group": "g", "stages": [1]}', "half a character"),
        (b'{"\\ud800": 1}', "half a character"),
        (b'"' + b"x" * 3_000_000 + b'"', "more than"),
        (b"[]", "must be a JSON object"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused(api: Client, body: bytes, sentence: str) -> None:
    answer = api.post("/api/v1/rollouts/", body, content_type=JSON)
    assert sentence in detail(answer, 413 if len(body) > 2_500_000 else 400)


def test_an_endless_share_is_refused(api: Client) -> None:
    from fleet.models import FrameGroup
    from ota.models import Release

    FrameGroup.objects.create(name="g", query="")
    Release.objects.create(
        digest="0" * 64, name="r", version="1", manifest={}, path="release/r-1.json", length=1, created_by="x"
    )
    body = b'{"release": "r 1", "group": "g", "stages": [' + b"1" * 400 + b"]}"
    assert "endless" in detail(api.post("/api/v1/rollouts/", body, content_type=JSON), 400)


def test_errors_say_what_to_do(api: Client) -> None:
    assert "Authorization: Token" in detail(Client().get("/api/v1/frames/"), 401)
    assert "Content-Type: application/json" in detail(api.post("/api/v1/groups/", {"name": "a"}), 415)
    assert "use GET" in detail(api.delete("/api/v1/frames/"), 405)
    assert "There is nothing at" in detail(api.post("/api/v1/rollouts", {}, content_type=JSON), 404)
    strict = Client(enforce_csrf_checks=True)
    assert "There is nothing at" in detail(strict.post("/api/v1/rollouts", {}, content_type=JSON), 404)


@pytest.mark.parametrize("accept", ["text/html", "image/png", "nonsense"])
def test_answers_are_json_whatever_is_asked_for(api: Client, accept: str) -> None:
    assert api.get("/api/v1/frames/", headers={"accept": accept}).json() == {"results": [], "next": None}
    assert api.get("/api/v1/frames/?format=api").status_code == 200


def test_another_host_is_refused_in_one_sentence() -> None:
    assert "FRAMEFLEET_HOSTS" in detail(Client(headers={"host": "evil.example"}).get("/api/v1/frames/"), 400)
    answer = Client(headers={"host": "evil.example"}).get("/")
    assert (answer.status_code, answer["Content-Type"]) == (400, "text/plain; charset=utf-8")


def test_a_form_from_elsewhere_is_refused_in_one_sentence() -> None:
    answer = Client(enforce_csrf_checks=True).post("/login/", {"username": "a", "password": "b"})
    assert answer.status_code == 403
    assert answer.content.decode().startswith("This form was not sent from a fresh page")
    assert "<" not in answer.content.decode()


@pytest.mark.parametrize("error", [OperationalError("connection refused"), InterfaceError("connection already closed")])
def test_a_database_that_is_away_is_no_fault_of_the_request(api: Client, error: Exception) -> None:
    with mock.patch("fleet.api.frames.list_frames", side_effect=error):
        assert "try again" in detail(api.get("/api/v1/frames/"), 503)
    with mock.patch("django.contrib.sessions.backends.db.SessionStore.load", side_effect=error):
        answer = Client(raise_request_exception=False)
        answer.cookies["sessionid"] = "x" * 32
        page = answer.get("/")
    assert page.status_code == 503
    assert "try again" in page.content.decode()


def test_a_fault_of_ours_says_nothing_of_its_inside(api: Client) -> None:
    with mock.patch("fleet.api.frames.list_frames", side_effect=RuntimeError("secret")):
        assert "secret" not in detail(api.get("/api/v1/frames/"), 500)
