"""What each role sees in the console, and what is refused when it is asked for all the same."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from fleet.models import ApiToken, AuditEntry
from fleet.permissions import Role, role_of
from fleet.services.tokens import create_token, find_token
from ota.models import Rollout
from tests.dashboards.world import World
from tests.fleet.factories import make_user

ROLES = [None, *Role]


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("role", ROLES)
def test_pages_and_commands_follow_the_role(role: Role | None, world: World) -> None:
    client = client_of(make_user("li", role))
    rollout = f"/rollouts/{world.rollout.pk}/"
    reads, steers = role is not None, role is not None and role >= Role.OPERATOR
    for address in ("/", "/frames/", "/rollouts/", rollout, f"{rollout}?part=live"):
        answer = client.get(address)
        assert answer.status_code == (200 if reads else 403), address
    assert (client.get("/admin/").status_code == 200) == (role is Role.ADMIN)
    assert (b'href="/admin/"' in client.get("/account/").content) == (role is Role.ADMIN)
    for kind in ("pause", "advance", "abort", "rollback"):
        assert client.get(f"{rollout}{kind}/").status_code == (200 if steers else 403)
    revision = Rollout.objects.get(pk=world.rollout.pk).revision
    answer = client.post(f"{rollout}pause/", {"seen_state": revision, "reason": "lips"})
    assert answer.status_code == (302 if steers else 403)
    assert Rollout.objects.get(pk=world.rollout.pk).state == ("paused" if steers else "running")
    assert client.post("/logout/").status_code == 302


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("en", "This needs the role operator or a higher one; yours is viewer."),
        ("zh-hans", "此操作需要“运维”或更高的角色；您的角色是“查看者”。"),
    ],
)
def test_a_viewer_sees_buttons_that_say_why_they_do_nothing(world: World, language: str, sentence: str) -> None:
    client = client_of(make_user("li", Role.VIEWER))
    rollout = f"/rollouts/{world.rollout.pk}/"
    text = client.get(rollout, headers={"accept-language": language}).content.decode()
    assert text.count(sentence) == 5, "four buttons and the form for comments"
    assert f'href="{rollout}pause/' not in text
    refused = client.get(f"{rollout}pause/", headers={"accept-language": language})
    assert sentence in refused.content.decode()
    assert refused.content.count(b"<h1") == 1


def test_somebody_without_a_role_is_told_so_and_can_leave(db: None) -> None:
    client = client_of(make_user("li", None))
    assert "ask an admin for one" in client.get("/").content.decode()
    assert client.get("/account/").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="192.0.2.1").status_code == 401


def test_a_token_is_made_shown_once_and_revoked_on_the_account_page(logged_in: Client, user: User) -> None:
    made = logged_in.post("/account/tokens/", {"name": "laptop", "scope": "release", "days": "30"})
    assert made.status_code == 201
    text = made.content.decode().partition('id="new-token" translate="no">')[2].partition("<")[0]
    found = find_token(text)
    assert found is not None
    assert (found.scope, found.user) == ("release", user)
    page = logged_in.get("/account/")
    assert text not in page.content.decode()
    assert "no-store" in page.headers["Cache-Control"]
    assert logged_in.post(f"/account/tokens/{found.pk}/revoke/").status_code == 302
    assert find_token(text) is None
    assert AuditEntry.objects.filter(action="revoke_token", actor="rosa").exists()


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"name": "", "scope": "read", "days": "30"}, 400),
        ({"name": "a\0b", "scope": "read", "days": "30"}, 400),
        ({"name": "x", "scope": "admin", "days": "30"}, 400),
        ({"name": "x", "scope": "read", "days": "31"}, 400),
        ({"name": "x", "scope": "root", "days": "30"}, 400),
        ({"name": "taken", "scope": "read", "days": "30"}, 409),
    ],
)
def test_a_token_that_cannot_be_made_is_refused_on_the_page(
    logged_in: Client, user: User, form: dict[str, Any], status: int
) -> None:
    create_token(user, "taken")
    answer = logged_in.post("/account/tokens/", form)
    assert answer.status_code == status
    assert 'role="alert"' in answer.content.decode()
    assert ApiToken.objects.count() == 1


def test_others_tokens_are_an_admin_s_business(logged_in: Client, user: User) -> None:
    boss = make_user("boss", Role.ADMIN)
    create_token(boss, "boss's own")
    create_token(user, "rosa's own")
    theirs = ApiToken.objects.get(user=boss)
    assert "boss&#x27;s own" not in logged_in.get("/account/").content.decode()
    assert logged_in.post(f"/account/tokens/{theirs.pk}/revoke/").status_code == 404
    text = client_of(boss).get("/account/").content.decode()
    assert "boss&#x27;s own" in text
    assert "rosa&#x27;s own" in text
    assert client_of(boss).post(f"/account/tokens/{ApiToken.objects.get(user=user).pk}/revoke/").status_code == 302


def test_an_admin_gives_roles_and_switches_people_off(user: User) -> None:
    boss = make_user("boss", Role.ADMIN)
    client = client_of(boss)
    form = {"username": "rosa", "role": "viewer", "is_active": "on"}
    assert client.post(f"/admin/auth/user/{user.pk}/change/", form).status_code == 302
    assert role_of(User.objects.get(pk=user.pk)) is Role.VIEWER
    entry = AuditEntry.objects.filter(action="set_role", actor="boss").latest("at")
    assert entry.detail == {"before": "releaser", "after": "viewer"}
    client.post(f"/admin/auth/user/{user.pk}/change/", {"username": "rosa", "role": "viewer"})
    assert role_of(User.objects.get(pk=user.pk)) is None
    form = {"username": "rosa", "role": "", "is_active": "on"}  # what the form shows of somebody switched off
    client.post(f"/admin/auth/user/{user.pk}/change/", form)
    assert User.objects.get(pk=user.pk).is_active
    assert role_of(User.objects.get(pk=user.pk)) is None
    refused = client.post(
        f"/admin/auth/user/{boss.pk}/change/", {"username": "boss", "role": "viewer", "is_active": "on"}
    )
    assert "no other admin" in refused.content.decode()
    assert client.post(f"/admin/auth/user/{user.pk}/delete/", {"post": "yes"}).status_code == 403
    new = {"username": "new", "role": "operator", "usable_password": "true"}
    new |= {"password1": "a frame in the attic", "password2": "a frame in the attic"}
    assert client.post("/admin/auth/user/add/", new).status_code == 302
    assert role_of(User.objects.get(username="new")) is Role.OPERATOR
    password = {"password1": "a frame in the hall", "password2": "a frame in the hall", "usable_password": "true"}
    assert client.post(f"/admin/auth/user/{user.pk}/password/", password).status_code == 302
    assert User.objects.get(pk=user.pk).check_password("a frame in the hall")
    assert AuditEntry.objects.filter(action="set_password", subject="rosa", actor="boss").exists()
    for hidden in ("auth/group/", "axes/accesslog/", "axes/accessfailurelog/"):
        assert client.get(f"/admin/{hidden}").status_code == 404
