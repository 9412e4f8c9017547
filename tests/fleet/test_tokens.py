"""API tokens: shown once, kept as hashes, worthless once expired."""

from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from fleet.models import ApiToken
from fleet.permissions import Role
from fleet.services.tokens import LIFETIME, create_token, find_token
from tests.fleet.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return make_user("alice")


def test_a_token_finds_its_user_and_is_not_stored(alice: User) -> None:
    token = create_token(alice, "laptop")
    found = find_token(token)
    assert found is not None
    assert found.user == alice
    stored = ApiToken.objects.values().get()
    assert token not in str(stored)
    assert stored["last_used_at"] is not None


def test_a_new_token_of_the_same_name_replaces_the_old_one(alice: User) -> None:
    old = create_token(alice, "laptop")
    new = create_token(alice, "laptop")
    assert find_token(old) is None
    assert find_token(new) is not None


def test_expired_tokens_and_those_of_inactive_users_open_nothing(alice: User) -> None:
    expired = create_token(alice, "old", now=timezone.now() - LIFETIME - timedelta(seconds=1))
    live = create_token(alice, "new", lifetime=timedelta(days=1))
    assert find_token(expired) is None
    assert find_token("guess") is None
    alice.is_active = False
    alice.save()
    assert find_token(live) is None


def test_the_command_prints_a_token_that_works(alice: User) -> None:
    out = StringIO()
    call_command("create_api_token", user="alice", name="ci", stdout=out)
    assert find_token(out.getvalue().strip()) is not None
    with pytest.raises(CommandError, match="There is no user 'bob'"):
        call_command("create_api_token", user="bob", name="ci")


def test_the_command_bounds_scope_and_lifetime(alice: User) -> None:
    call_command("create_api_token", user="alice", name="ci", scope="read", days=7, stdout=StringIO())
    token = ApiToken.objects.get(name="ci")
    assert token.scope == "read"
    assert token.expires_at is not None
    assert token.expires_at - token.created_at == timedelta(days=7)
    call_command("create_api_token", "--never", user="alice", name="robot", stdout=StringIO())
    assert ApiToken.objects.get(name="robot").expires_at is None
    make_user("li", Role.VIEWER)
    with pytest.raises(CommandError, match="may not do as much"):
        call_command("create_api_token", user="li", name="ci", scope="release")
