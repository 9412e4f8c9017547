"""API tokens: made once, kept as hashes, bounded by a scope and, unless that is asked for, by an end."""

import hashlib
import secrets
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from fleet.models import ApiToken
from fleet.permissions import SCOPES, Role, role_of, scope_of
from fleet.services.audit import audit
from protocol.errors import Reason, Refused

LAST_USED_STEP = timedelta(minutes=1)
"""How exactly ``last_used_at`` is kept: a write for every request would cost more than it tells."""
LIFETIME = timedelta(days=90)
LONGEST = timedelta(days=3650)
MAX_TOKENS = 100
"""Of one user."""
MAX_NAME = 64


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def create_token(
    user: User,
    name: str,
    *,
    scope: str = "",
    lifetime: timedelta | None = LIFETIME,
    actor: str = "",
    now: datetime | None = None,
) -> str:
    """A new token of ``user``, replacing one of the same name. The text is returned once and never stored.

    ``scope`` is one of ``SCOPES`` (default: all that the user may); ``lifetime`` None makes one that never ends.
    Raises Refused.
    """
    now = now or timezone.now()
    scope = scope or scope_of(role_of(user) or Role.VIEWER)
    _check(user, name, scope, lifetime)
    token = secrets.token_urlsafe(32)
    expires_at = None if lifetime is None else now + lifetime
    with transaction.atomic():
        ApiToken.objects.update_or_create(
            user=user,
            name=name,
            defaults={
                "digest": _digest(token),
                "created_at": now,
                "expires_at": expires_at,
                "last_used_at": None,
                "scope": scope,
            },
        )
        detail = {"scope": scope, "expires_at": expires_at.isoformat() if expires_at else None}
        audit(actor or "local", "create_token", _subject(user, name), detail, now)
    return token


def revoke_token(token: ApiToken, actor: str) -> None:
    """From now on it opens nothing."""
    with transaction.atomic():
        token.delete()
        audit(actor, "revoke_token", _subject(token.user, token.name), {"scope": token.scope})


def find_token(token: str) -> ApiToken | None:
    """The token this text belongs to, None when there is none, it has expired or its user may not log in."""
    now = timezone.now()
    found = ApiToken.objects.select_related("user").filter(digest=_digest(token)).first()
    if found is None or not found.user.is_active or (found.expires_at is not None and found.expires_at <= now):
        return None
    if found.last_used_at is None or found.last_used_at < now - LAST_USED_STEP:
        ApiToken.objects.filter(pk=found.pk).update(last_used_at=now)
    return found


def check_name(name: str) -> None:
    """Before the database is asked about it, which takes no NUL. Raises Refused."""
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise Refused(Reason.BAD_MESSAGE, f"A token's name has 1 to {MAX_NAME} printable characters.")


def _check(user: User, name: str, scope: str, lifetime: timedelta | None) -> None:
    check_name(name)
    if scope not in SCOPES:
        raise Refused(Reason.BAD_MESSAGE, f"A token has no scope {scope[:20]!r}: use {', '.join(SCOPES)}.")
    if SCOPES[scope] > (role_of(user) or Role.VIEWER):
        raise Refused(Reason.BAD_MESSAGE, f"{user.get_username()} may not do as much as the scope {scope} says.")
    if lifetime is not None and not timedelta(0) < lifetime <= LONGEST:
        raise Refused(Reason.BAD_MESSAGE, f"A token works for 1 to {LONGEST.days} days.")
    if ApiToken.objects.filter(user=user).exclude(name=name).count() >= MAX_TOKENS:
        raise Refused(Reason.BAD_MESSAGE, f"{user.get_username()} has {MAX_TOKENS} tokens already: revoke some first.")


def _subject(user: User, name: str) -> str:
    return f"{user.get_username()}: {name}"
