"""Imported before Django is set up: what needs Django is imported by the fixtures themselves."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.test import Client

    from tests.dashboards.world import World


@pytest.fixture
def quick_passwords(settings: Any) -> None:
    """Argon2 takes its time, on purpose; only the tests about passwords themselves wait for it."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", *settings.PASSWORD_HASHERS]


@pytest.fixture
def user(db: None, quick_passwords: None) -> "User":
    from fleet.permissions import Role
    from tests.fleet.factories import make_user

    return make_user("rosa", Role.RELEASER, "a frame on the wall")


@pytest.fixture
def logged_in(client: "Client", user: "User") -> "Client":
    client.force_login(user)
    return client


@pytest.fixture
def world(db: None) -> "World":
    from tests.dashboards.world import make_world

    return make_world()
