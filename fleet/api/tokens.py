"""``tokens/``: API tokens. Each is shown once, when it is made."""

from datetime import timedelta
from typing import Any, ClassVar, cast

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils import timezone
from rest_framework import status
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest
from fleet.api.pages import page
from fleet.models import ApiToken
from fleet.permissions import SCOPES, Action, may
from fleet.services.tokens import LIFETIME, check_name, create_token, revoke_token


class TokenList(APIView):
    """``GET tokens/`` and ``POST tokens/ {"name", "scope", "days"}``"""

    actions: ClassVar = {"POST": Action.READ}  # everybody makes tokens of their own, within their own role

    def get(self, request: Request) -> Response:
        """The caller's tokens; an admin's call lists everybody's."""
        return page(request, _visible(request).order_by("pk"), show_token)

    def post(self, request: Request) -> Response:
        """Make one: 201 with the token itself, which is never shown again. ``days`` null: it never ends."""
        data = request.data
        if not isinstance(data, dict):
            raise BadRequest('Send an object, such as {"name": "ci", "scope": "read", "days": 90}.')
        name, scope, days = data.get("name"), data.get("scope", ""), data.get("days", LIFETIME.days)
        if not isinstance(name, str) or not isinstance(scope, str):
            raise BadRequest('Send name and scope as text, such as {"name": "ci", "scope": "read"}.')
        check_name(name)
        if days is not None and (isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= 3650):
            raise BadRequest("days must be 1 to 3650, or null for a token that never ends.")
        user = cast(User, request.user)
        lifetime = None if days is None else timedelta(days=days)
        own = _own_token(request)
        if own is not None:
            scope = scope or own.scope
            lifetime = _within(own, name, scope, lifetime)
        text = create_token(user, name, scope=scope, lifetime=lifetime, actor=user.get_username())
        made = ApiToken.objects.select_related("user").get(user=user, name=name)
        return Response({**show_token(made), "token": text}, status=status.HTTP_201_CREATED)


class TokenDetail(APIView):
    """``DELETE tokens/{id}/``"""

    actions: ClassVar = {"DELETE": Action.READ}

    def delete(self, request: Request, token_id: int) -> Response:
        """Revoke it: 204."""
        found = _visible(request).filter(pk=token_id).first()
        if found is None:
            raise NotFound(f"There is no token {token_id} of yours: see tokens/.")
        own = _own_token(request)
        if own is not None and SCOPES[found.scope] > SCOPES[own.scope]:
            raise PermissionDenied(f"A token of the scope {own.scope} does not revoke one of the scope {found.scope}.")
        revoke_token(found, request.user.get_username())
        return Response(status=status.HTTP_204_NO_CONTENT)


def show_token(token: ApiToken) -> dict[str, Any]:
    """A token as the API gives it; never the text that opens anything."""
    return {
        "id": token.pk,
        "name": token.name,
        "user": token.user.get_username(),
        "scope": token.scope,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
    }


def _own_token(request: Request) -> ApiToken | None:
    return request.auth if isinstance(request.auth, ApiToken) else None


def _visible(request: Request) -> QuerySet[ApiToken]:
    rows = ApiToken.objects.select_related("user")
    if may(request.user, Action.MANAGE_PEOPLE, _own_token(request)):
        return rows
    return rows.filter(user=cast(User, request.user))


def _within(own: ApiToken, name: str, scope: str, lifetime: timedelta | None) -> timedelta | None:
    """A token makes no token that may more or lives longer than itself, or a stolen one could outlive its end."""
    if scope in SCOPES and SCOPES[scope] > SCOPES[own.scope]:
        raise PermissionDenied(f"A token of the scope {own.scope} makes none of the scope {scope}.")
    replaced = ApiToken.objects.filter(user=own.user, name=name).first()
    if replaced is not None and SCOPES[replaced.scope] > SCOPES[own.scope]:
        raise PermissionDenied(f"A token of the scope {own.scope} replaces none of the scope {replaced.scope}.")
    if own.expires_at is None:
        return lifetime
    left = own.expires_at - timezone.now()
    return left if lifetime is None else min(left, lifetime)
