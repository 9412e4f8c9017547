"""People: their role, written where Django looks for it."""

from django.contrib.auth.models import Group, User
from django.db import transaction

from fleet.permissions import Role, role_of
from fleet.services.audit import audit


def set_role(user: User, role: Role | None, actor: str) -> None:
    """Give ``user`` this role and no other; None takes every role away. Raises LastAdmin."""
    with transaction.atomic():
        check_role(user, role)
        before = role_of(User.objects.select_for_update(no_key=True).get(pk=user.pk))
        user.is_superuser = user.is_staff = role is Role.ADMIN
        user.save(update_fields=["is_superuser", "is_staff"])
        user.groups.remove(*Group.objects.filter(name__in=[known.word for known in Role]))
        if role is not None:
            user.groups.add(Group.objects.get_or_create(name=role.word)[0])
        if before is not role:
            detail = {"before": before.word if before else None, "after": role.word if role else None}
            audit(actor, "set_role", user.get_username(), detail)


def check_role(user: User, role: Role | None) -> None:
    """Whether ``user`` may have this role from now on. Raises LastAdmin.

    Call it in a transaction: all admins stay locked until its end, so that no two who take the role from each other
    both find the other one left.
    """
    if role is Role.ADMIN or user.pk is None:
        return
    admins = User.objects.select_for_update(no_key=True).filter(is_superuser=True, is_active=True).order_by("pk")
    if [admin.pk for admin in admins] == [user.pk]:
        raise LastAdmin("There is no other admin: make somebody else one first.")


class LastAdmin(Exception):
    """Nobody could put it right afterwards."""
