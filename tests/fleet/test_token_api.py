"""Tokens over REST: made, listed, revoked; none makes another that may more or lives longer."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from fleet.models import ApiToken, AuditEntry
from fleet.permissions import Role
from fleet.services.tokens import MAX_TOKENS, create_token, find_token
from protocol.errors import Refused
from tests.fleet.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def rosa() -> User:
    return make_user("rosa", Role.OPERATOR)


def api(user: User, **kind: Any) -> Client:
    return Client(headers={"authorization": f"Token {create_token(user, 'first', **kind)}"})


def post(client: Client, expect: int = 201, **body: object) -> Any:
    answer = client.post("/api/v1/tokens/", body, content_type="application/json")
    assert answer.status_code == expect, answer.content
    return answer.json()


def test_a_cursor_of_somebody_s_own_making_is_refused_in_a_sentence(rosa: User) -> None:
    answer = api(rosa).get("/api/v1/tokens/", {"cursor": "first"})
    assert answer.status_code == 400
    assert "not one of ours" in answer.json()["detail"]


def test_a_token_is_shown_once_ends_after_ninety_days_and_is_written_down(rosa: User) -> None:
    made = post(api(rosa), name="ci", scope="read")
    assert find_token(made["token"]) is not None
    row = ApiToken.objects.get(name="ci")
    assert row.expires_at is not None
    assert timedelta(days=89) < row.expires_at - timezone.now() <= timedelta(days=90)
    listed = api(rosa).get("/api/v1/tokens/").json()["results"]
    assert [(one["name"], one["scope"]) for one in listed] == [("first", "operate"), ("ci", "read")]
    assert made["token"] not in str(listed)
    entry = AuditEntry.objects.get(action="create_token", subject="rosa: ci")
    assert entry.detail["scope"] == "read"


def test_only_who_asks_for_it_gets_a_token_that_never_ends(rosa: User) -> None:
    assert post(api(rosa, lifetime=None), name="robot", scope="read", days=None)["expires_at"] is None


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"scope": "read"}, 400, "name and scope as text"),
        ({"name": "", "scope": "read"}, 400, "1 to 64"),
        ({"name": "a\0b", "scope": "read"}, 400, "1 to 64"),
        ({"name": "x" * 65, "scope": "read"}, 400, "1 to 64"),
        ({"name": "x", "scope": "root"}, 400, "no scope 'root'"),
        ({"name": "x", "scope": "read", "days": 0}, 400, "days must be"),
        ({"name": "x", "scope": "read", "days": True}, 400, "days must be"),
        ({"name": "x", "scope": "read", "days": 10**30}, 400, "days must be"),
        ({"name": "x", "scope": "admin"}, 403, "makes none of the scope admin"),
    ],
)
def test_a_wrong_wish_is_refused_with_one_sentence(rosa: User, body: dict[str, Any], status: int, words: str) -> None:
    assert words in post(api(rosa), status, **body)["detail"]
    assert ApiToken.objects.count() == 1


def test_a_token_makes_none_that_may_more_lives_longer_or_replaces_a_stronger_one(rosa: User) -> None:
    create_token(rosa, "strong")
    weak = api(rosa, scope="read", lifetime=timedelta(hours=1))
    assert "makes none of the scope operate" in post(weak, 403, name="more", scope="operate")["detail"]
    assert "replaces none" in post(weak, 403, name="strong", scope="read")["detail"]
    made = post(weak, name="longer", days=None)
    row = ApiToken.objects.get(name="longer")
    assert made["scope"] == "read"
    assert row.expires_at is not None
    assert row.expires_at <= timezone.now() + timedelta(hours=1)
    strong = ApiToken.objects.get(name="strong")
    assert weak.delete(f"/api/v1/tokens/{strong.pk}/").status_code == 403


def test_a_revoked_token_opens_nothing_and_others_are_none_of_my_business(rosa: User) -> None:
    mine = api(rosa)
    text = create_token(rosa, "laptop")
    li = make_user("li", Role.OPERATOR)
    create_token(li, "theirs")
    theirs = ApiToken.objects.get(user=li)
    assert mine.delete(f"/api/v1/tokens/{theirs.pk}/").status_code == 404
    assert mine.delete(f"/api/v1/tokens/{ApiToken.objects.get(name='laptop').pk}/").status_code == 204
    assert find_token(text) is None
    assert AuditEntry.objects.filter(action="revoke_token", subject="rosa: laptop", actor="rosa").exists()
    admin = api(make_user("boss", Role.ADMIN))
    assert admin.delete(f"/api/v1/tokens/{theirs.pk}/").status_code == 204


def test_one_user_s_tokens_are_bounded(rosa: User) -> None:
    ApiToken.objects.bulk_create(
        ApiToken(user=rosa, name=f"n{number}", digest=f"{number:064}") for number in range(MAX_TOKENS)
    )
    with pytest.raises(Refused, match="revoke some first"):
        create_token(rosa, "one more")
    create_token(rosa, "n5")  # replacing one adds none
