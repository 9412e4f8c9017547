"""Every role against every action, and against every address of the REST API that changes anything."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.views import APIView

from fleet.api.permissions import action_of
from fleet.models import ApiToken, AuditEntry
from fleet.permissions import LEAST, SCOPES, Action, Role, effective_role, may, role_of
from fleet.services.people import LastAdmin, set_role
from fleet.services.tokens import create_token
from tests.fleet.factories import make_user

pytestmark = pytest.mark.django_db

READ, EDIT, ENROL, STEER = Action.READ, Action.EDIT_GROUPS, Action.ENROL_FRAMES, Action.STEER_ROLLOUT
PUSH, START, APPROVE = Action.PUSH_RELEASE, Action.START_ROLLOUT, Action.APPROVE_ROLLOUT
MAY: dict[Role | None, set[Action]] = {
    None: set(),
    Role.VIEWER: {READ},
    Role.OPERATOR: {READ, EDIT, ENROL, STEER},
    Role.RELEASER: {READ, EDIT, ENROL, STEER, PUSH, START, APPROVE},
    Role.ADMIN: set(Action),
}


@pytest.mark.parametrize("role", MAY)
def test_a_role_may_do_this_and_nothing_else(role: Role | None) -> None:
    user = make_user("rosa", role)
    assert {action for action in Action if may(user, action)} == MAY[role]
    user.is_active = False
    assert not any(may(user, action) for action in Action)


def test_the_table_names_every_action() -> None:
    assert set(LEAST) == set(Action)
    assert not any(may(AnonymousUser(), action) for action in Action)


def test_a_token_is_worth_its_scope_but_never_more_than_its_user() -> None:
    user = make_user("rosa", Role.ADMIN)
    make_user("other", Role.ADMIN)
    for scope in SCOPES:
        create_token(user, scope, scope=scope)
    for role in Role:
        set_role(user, role, "test")  # a role that was taken away is taken from the tokens too
        for token in ApiToken.objects.all():
            assert effective_role(user, token) is min(role, SCOPES[token.scope])


def test_a_group_called_admin_makes_nobody_an_admin() -> None:
    user = make_user("rosa", Role.VIEWER)
    user.groups.add(Group.objects.get_or_create(name="admin")[0])
    assert role_of(user) is Role.VIEWER


REQUESTS: list[tuple[str, str, Action]] = [
    ("get", "frames/", READ),
    ("get", "rollouts/", READ),
    ("get", "audit/", READ),
    ("post", "groups/", EDIT),
    ("post", "claims/", ENROL),
    ("put", f"artifacts/{'0' * 64}/", PUSH),
    ("post", "releases/", PUSH),
    ("post", "rollouts/", START),
    *[("post", f"rollouts/1/{kind}/", STEER) for kind in ("pause", "resume", "advance", "abort", "rollback")],
    ("post", "rollouts/1/approve/", APPROVE),
    ("post", "repository/", Action.SET_UP_REPOSITORY),
    ("put", "groups/transfer/", Action.SET_POLICY),
]


@pytest.mark.parametrize("role", MAY)
def test_the_rest_api_asks_the_table(role: Role | None) -> None:
    token = create_token(make_user("rosa", role), "t")
    client = Client(headers={"authorization": f"Token {token}"})
    for method, path, action in REQUESTS:
        kind = "text/csv" if path == "claims/" else "application/json"
        answer = getattr(client, method)(f"/api/v1/{path}", data="", content_type=kind)
        assert (answer.status_code == 403) == (action not in MAY[role]), (path, answer.content)
        if answer.status_code == 403:
            assert answer.json()["detail"].endswith(("ask an admin for one.", "ask an admin."))


def test_a_token_whose_scope_is_too_small_is_told_so() -> None:
    token = create_token(make_user("rosa", Role.ADMIN), "t", scope="read")
    answer = Client(headers={"authorization": f"Token {token}"}).post("/api/v1/groups/", {}, "application/json")
    assert answer.status_code == 403
    assert answer.json() == {"detail": "This needs a token of the scope operate; yours has read: make another token."}


def views(patterns: Any, prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            found += views(pattern.url_patterns, prefix + str(pattern.pattern))
        elif isinstance(pattern, URLPattern) and hasattr(pattern.callback, "cls"):
            found.append((prefix + str(pattern.pattern), pattern.callback.cls))
    return found


def test_every_address_that_changes_something_names_its_action() -> None:
    changing = 0
    for address, view in views(get_resolver().url_patterns):
        assert issubclass(view, APIView)
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            if hasattr(view, method.lower()):
                assert method in getattr(view, "actions", {}), f"{method} {address}"
                changing += 1
    assert changing > 8


def test_a_view_that_says_nothing_is_for_admins() -> None:
    class Silent(APIView):
        """Says nothing."""

    assert action_of(Silent(), "POST") is Action.MANAGE_PEOPLE
    assert action_of(Silent(), "GET") is READ


def test_a_change_of_role_is_written_down_and_the_last_admin_stays() -> None:
    boss, rosa = make_user("boss", Role.ADMIN), make_user("rosa", None)
    call_command("set_role", user="rosa", role="operator", verbosity=0)
    assert role_of(User.objects.get(pk=rosa.pk)) is Role.OPERATOR
    entry = AuditEntry.objects.get(action="set_role", subject="rosa", actor="local")
    assert entry.detail == {"before": None, "after": "operator"}
    with pytest.raises(LastAdmin):
        set_role(boss, Role.VIEWER, "test")
    with pytest.raises(CommandError, match="no other admin"):
        call_command("set_role", user="boss", role="none")
    assert role_of(User.objects.get(pk=boss.pk)) is Role.ADMIN


@pytest.mark.django_db(transaction=True)
def test_of_two_admins_who_take_the_role_from_each_other_one_stays() -> None:
    admins = [make_user("boss", Role.ADMIN), make_user("rosa", Role.ADMIN)]
    barrier = threading.Barrier(2)

    def demote(user: User) -> type[Exception] | None:
        try:
            with transaction.atomic():
                barrier.wait(10)
                set_role(user, None, "test")
                time.sleep(0.2)  # the other one looks meanwhile
        except LastAdmin:
            return LastAdmin
        finally:
            connection.close()
        return None

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(demote, admins)) == {None, LastAdmin}
    assert User.objects.filter(is_superuser=True).count() == 1
