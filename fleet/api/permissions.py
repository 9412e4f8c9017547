"""The table of ``fleet.permissions``, asked before every view of the REST API.

A view says what its methods do::

    actions = {"POST": Action.EDIT_GROUPS}

Methods that only read need ``READ``; any other method that a view says nothing about is for admins.
"""

from typing import Any

from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from fleet.models import ApiToken
from fleet.permissions import LEAST, SCOPES, Action, Role, may, role_of


class MayDo(BasePermission):
    """Refuses with one sentence that names the role which is missing."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """False without a token (401); raises PermissionDenied (403) with one whose role or scope is too small."""
        if not request.user or not request.user.is_authenticated:
            return False
        require(request, action_of(view, request.method or "GET"))
        return True


def action_of(view: Any, method: str) -> Action:
    """What this method of the view does."""
    declared: dict[str, Action] = getattr(view, "actions", {})
    if method in SAFE_METHODS:
        return declared.get("GET", Action.READ)
    return declared.get(method, Action.MANAGE_PEOPLE)


def require(request: Request, action: Action) -> None:
    """Raises PermissionDenied unless the request may do this."""
    token = request.auth if isinstance(request.auth, ApiToken) else None
    if not may(request.user, action, token):
        raise PermissionDenied(_sentence(role_of(request.user), LEAST[action], token))


def _sentence(role: Role | None, least: Role, token: ApiToken | None) -> str:
    if role is None:
        return "You have no role yet: ask an admin for one."
    if role < least:
        return f"This needs the role {least.word}; yours is {role.word}: ask an admin."
    scope = next(name for name, worth in SCOPES.items() if worth is least)
    return f"This needs a token of the scope {scope}; yours has {token.scope if token else 'none'}: make another token."
