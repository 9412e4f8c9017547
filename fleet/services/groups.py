"""Making FrameGroups, and saying when and how much their frames may download."""

import re
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import F

from fleet.groups import parse_query
from fleet.models import FrameGroup
from fleet.services.audit import audit
from protocol.errors import Reason, Refused

MAX_NAME = 64
MAX_DAILY_MB = 1_000_000
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Hours:
    """Minutes of the day; from one to the other, past midnight where the first is the later."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.start // 60:02}:{self.start % 60:02}-{self.end // 60:02}:{self.end % 60:02}"


def parse_hours(text: str) -> Hours | None:
    """``22:00-06:30`` as Hours, None for an empty text. Raises Refused with one sentence."""
    if not text:
        return None
    found = _HOURS.fullmatch(text)
    if found is None:
        raise Refused(Reason.BAD_MESSAGE, f"{text!r} are no quiet hours: write them as 08:00-22:00.")
    first, second, third, fourth = map(int, found.groups())
    hours = Hours(first * 60 + second, third * 60 + fourth)
    if hours.start == hours.end:
        raise Refused(Reason.BAD_MESSAGE, "Quiet hours that end when they begin are none: give two different times.")
    return hours


def quiet_hours(group: FrameGroup) -> Hours | None:
    """The group's quiet hours, None when it has none."""
    if group.quiet_from is None or group.quiet_to is None:
        return None
    return Hours(group.quiet_from, group.quiet_to)


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


@transaction.atomic
def set_transfer(group: FrameGroup, hours: Hours | None, daily_mb: int | None, actor: str) -> FrameGroup:
    """Say when and how much the group's frames may download. It reaches them with their next DesiredState, which the
    director issues within a minute or two. Raises Refused."""
    if daily_mb is not None and not 1 <= daily_mb <= MAX_DAILY_MB:
        raise Refused(Reason.BAD_MESSAGE, f"A daily budget is 1 to {MAX_DAILY_MB} MB, or none at all.")
    group.quiet_from, group.quiet_to = (hours.start, hours.end) if hours is not None else (None, None)
    group.daily_mb = daily_mb
    fields = {"quiet_from": group.quiet_from, "quiet_to": group.quiet_to, "daily_mb": daily_mb}
    FrameGroup.objects.filter(pk=group.pk).update(**fields, transfer_revision=F("transfer_revision") + 1)
    group.refresh_from_db(fields=["transfer_revision"])
    audit(actor, "set_transfer", group.name, {"quiet_hours": str(hours or ""), "daily_mb": daily_mb})
    return group


def check_group(name: str, query: str) -> None:
    """Raises Refused with one sentence when name or query cannot be used."""
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise Refused(Reason.BAD_MESSAGE, f"A group needs a name of 1 to {MAX_NAME} printable characters.")
    parse_query(query)
