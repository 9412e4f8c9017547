"""Who may do what: one table from each action to the least role that may do it.

A person's role is kept in Django's own tables: an admin is a superuser, the others are members of a Group of the role's
name (``fleet.services.people.set_role`` writes both). Someone without a role may do nothing. An API token never does
more than its scope, nor more than its user.
"""

from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

from django.contrib.auth.models import AnonymousUser, User

if TYPE_CHECKING:
    from fleet.models import ApiToken


class Role(IntEnum):
    """Each may do what the ones before it may."""

    VIEWER = 1
    OPERATOR = 2
    RELEASER = 3
    ADMIN = 4

    @property
    def word(self) -> str:
        """The role as it is written: in Groups, settings and sentences."""
        return self.name.lower()


class Action(StrEnum):
    """What people and programs ask of the backend."""

    READ = "read"
    EDIT_GROUPS = "edit_groups"
    ENROL_FRAMES = "enrol_frames"
    STEER_ROLLOUT = "steer_rollout"
    PUSH_RELEASE = "push_release"
    START_ROLLOUT = "start_rollout"
    APPROVE_ROLLOUT = "approve_rollout"
    SET_UP_REPOSITORY = "set_up_repository"
    SET_POLICY = "set_policy"
    MANAGE_PEOPLE = "manage_people"


LEAST: dict[Action, Role] = {
    Action.READ: Role.VIEWER,
    Action.EDIT_GROUPS: Role.OPERATOR,
    Action.ENROL_FRAMES: Role.OPERATOR,  # claims, CSV, replacement, retirement, revocation
    Action.STEER_ROLLOUT: Role.OPERATOR,  # pause, resume, advance, abort, roll back
    Action.PUSH_RELEASE: Role.RELEASER,
    Action.START_ROLLOUT: Role.RELEASER,
    Action.APPROVE_ROLLOUT: Role.RELEASER,
    Action.SET_UP_REPOSITORY: Role.ADMIN,
    Action.SET_POLICY: Role.ADMIN,
    Action.MANAGE_PEOPLE: Role.ADMIN,  # users, roles, everybody's tokens
}

SCOPES: dict[str, Role] = {
    "read": Role.VIEWER,
    "operate": Role.OPERATOR,
    "release": Role.RELEASER,
    "admin": Role.ADMIN,
}
"""An API token's scope, and the role that it is worth at most."""

_BY_WORD = {role.word: role for role in Role}


def role_named(word: str) -> Role | None:
    """The role of this name, None when there is none."""
    return _BY_WORD.get(word)


def role_of(user: User | AnonymousUser) -> Role | None:
    """The person's role, None for nobody, somebody without one and somebody who was switched off."""
    if not user.is_authenticated or not user.is_active:
        return None
    if user.is_superuser:
        return Role.ADMIN
    names = user.groups.values_list("name", flat=True)
    return max((_BY_WORD[name] for name in names if name in _BY_WORD and name != Role.ADMIN.word), default=None)


def effective_role(user: User | AnonymousUser, token: "ApiToken | None" = None) -> Role | None:
    """The role that counts for a request: the user's, bounded by the scope of the token it came with."""
    role = role_of(user)
    return role if role is None or token is None else min(role, SCOPES.get(token.scope, Role.VIEWER))


def may(user: User | AnonymousUser, action: Action, token: "ApiToken | None" = None) -> bool:
    """Whether the request's role is enough."""
    role = effective_role(user, token)
    return role is not None and role >= LEAST[action]


def scope_of(role: Role) -> str:
    """The widest scope that a role may give a token."""
    return next(scope for scope, worth in SCOPES.items() if worth is role)
