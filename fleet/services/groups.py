"""Making FrameGroups."""

from django.db import IntegrityError, transaction

from fleet.groups import parse_query
from fleet.models import FrameGroup
from fleet.services.audit import audit
from protocol.errors import Reason, Refused

MAX_NAME = 64


class NameTaken(Exception):
    """Another group has this name already; one sentence."""


def create_group(name: str, query: str, actor: str) -> FrameGroup:
    """A new group. Raises Refused when name or query cannot be used, NameTaken when the name is in use."""
    name = name.strip()
    check_group(name, query)
    try:
        with transaction.atomic():
            group = FrameGroup.objects.create(name=name, query=query)
            audit(actor, "create_group", name, {"query": query})
            return group
    except IntegrityError:
        raise NameTaken(f"There is a group {name!r} already: choose another name.") from None


def check_group(name: str, query: str) -> None:
    """Raises Refused with one sentence when name or query cannot be used."""
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise Refused(Reason.BAD_MESSAGE, f"A group needs a name of 1 to {MAX_NAME} printable characters.")
    parse_query(query)
