"""API tokens: made once, kept as hashes."""

import hashlib
import secrets
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from fleet.models import ApiToken

LAST_USED_STEP = timedelta(minutes=1)
"""How exactly ``last_used_at`` is kept: a write for every request would cost more than it tells."""


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def create_token(user: User, name: str, expires_at: datetime | None = None) -> str:
    """A new token of ``user``, replacing one of the same name. The text is returned once and never stored."""
    token = secrets.token_urlsafe(32)
    ApiToken.objects.update_or_create(
        user=user,
        name=name,
        defaults={
            "digest": _digest(token),
            "created_at": timezone.now(),
            "expires_at": expires_at,
            "last_used_at": None,
        },
    )
    return token


def find_token(token: str) -> ApiToken | None:
    """The token this text belongs to, None when there is none, it has expired or its user may not log in."""
    now = timezone.now()
    found = ApiToken.objects.select_related("user").filter(digest=_digest(token)).first()
    if found is None or not found.user.is_active or (found.expires_at is not None and found.expires_at <= now):
        return None
    if found.last_used_at is None or found.last_used_at < now - LAST_USED_STEP:
        ApiToken.objects.filter(pk=found.pk).update(last_used_at=now)
    return found
