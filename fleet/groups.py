"""FrameGroups: a query is ``key=value`` terms joined by ``,``; an empty one means every frame in service.

Different keys must all hold; one key given several times means any of its values:
``locale=zh,simulated=true`` or ``id=frame-1,id=frame-2``.
"""

from django.db.models import QuerySet

from fleet.models import Frame, FrameGroup
from protocol.errors import Reason, Refused
from protocol.topics import is_frame_id

KEYS = ("locale", "hardware", "simulated", "id")
MAX_QUERY = 500
_SWITCH = {"true": True, "false": False}

Condition = dict[str, list[str | bool]]


def parse_query(query: str) -> Condition:
    """The values each key may have. Raises Refused with one sentence when the query cannot be read."""
    if len(query) > MAX_QUERY:
        raise Refused(Reason.BAD_MESSAGE, f"A group's query has at most {MAX_QUERY} characters, not {len(query)}.")
    found: Condition = {}
    for term in filter(None, (part.strip() for part in query.split(","))):
        key, equals, value = (part.strip() for part in term.partition("="))
        if not equals or not value:
            raise Refused(Reason.BAD_MESSAGE, f"{term!r} is no term of a query: write key=value, such as locale=zh.")
        if key not in KEYS:
            raise Refused(Reason.BAD_MESSAGE, f"A group cannot ask for {key!r}: use {', '.join(KEYS)}.")
        found.setdefault(key, []).append(_value(key, value))
    return found


def frames_matching(query: str) -> QuerySet[Frame]:
    """The frames a query means now: in service, neither awaited nor retired. Raises Refused."""
    active = Frame.objects.filter(lifecycle=Frame.Lifecycle.ACTIVE)
    return active.filter(**{f"{key}__in": values for key, values in parse_query(query).items()})


def frames_in(group: FrameGroup) -> QuerySet[Frame]:
    """The frames of a group now. Raises Refused when the stored query cannot be read."""
    return frames_matching(group.query)


def _value(key: str, value: str) -> str | bool:
    if key == "simulated":
        if value.lower() not in _SWITCH:
            raise Refused(Reason.BAD_MESSAGE, f"simulated={value} is neither simulated=true nor simulated=false.")
        return _SWITCH[value.lower()]
    if key == "id" and not is_frame_id(value):
        raise Refused(Reason.BAD_MESSAGE, f"{value!r} is no frame id: use 1 to 40 of a-z, 0-9 and '-'.")
    if "\0" in value:
        raise Refused(Reason.BAD_MESSAGE, "A group's query must not hold a NUL character.")
    return value
