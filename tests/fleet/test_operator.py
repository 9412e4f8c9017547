"""The first user: made once, however often and however rudely the start was interrupted."""

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

pytestmark = pytest.mark.django_db


def test_the_operator_is_made_once_and_keeps_a_changed_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "the-first-one")
    call_command("ensure_operator", username="ops")
    user = User.objects.get(username="ops")
    assert user.is_superuser
    assert user.check_password("the-first-one")
    user.set_password("my-own")
    user.save()
    call_command("ensure_operator", username="ops")
    assert User.objects.get().check_password("my-own")


def test_a_password_is_asked_for_only_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_SUPERUSER_PASSWORD", raising=False)
    with pytest.raises(CommandError, match="DJANGO_SUPERUSER_PASSWORD"):
        call_command("ensure_operator", username="ops")
    User.objects.create_superuser("ops")
    call_command("ensure_operator", username="ops")
