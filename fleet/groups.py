"""FrameGroups: a query is ``key=value`` terms joined by ``,``; an empty one means every frame in service.

Different keys must all hold; one key given several times means any of its values:
``locale=zh,simulated=true`` or ``id=frame-1,id=frame-2``.

Of a playback's context (``pose``, ``loudness``, ``runtime``) a query means frames whose playbacks of the last
``CONTEXT_DAYS`` days had it at least half of the time, among those that tell. ``release`` is what a frame says it runs:
the first characters of its digest or, where ``name_releases`` was told how to find it, "name version".
"""

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta

from django.db.models import F, Q, QuerySet, Sum

from fleet import clock
from fleet.models import ContextDay, Frame, FrameGroup
from fleet.services.places import is_timezone
from protocol.errors import Reason, Refused
from protocol.messages import CONTEXTS
from protocol.topics import is_frame_id

_FIELDS = {
    "locale": "locale",
    "hardware": "hardware",
    "simulated": "simulated",
    "id": "id",
    "site": "site",
    "timezone": "timezone",
    "agent": "agent_version",
}
KEYS = (*_FIELDS, "release", *CONTEXTS)
MAX_QUERY = 500
CONTEXT_DAYS = 28
_DIGEST = re.compile(r"[0-9a-f]{8,64}")
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


def frames_matching(query: str, now: datetime | None = None) -> QuerySet[Frame]:
    """The frames a query means now: in service, neither awaited nor retired. Raises Refused."""
    return known_matching(query, now).filter(lifecycle=Frame.Lifecycle.ACTIVE)


def known_matching(query: str, now: datetime | None = None) -> QuerySet[Frame]:
    """The same with those that are awaited or retired, to say why they are left out."""
    found = Frame.objects.all()
    for key, values in parse_query(query).items():
        if key in _FIELDS:
            found = found.filter(**{f"{_FIELDS[key]}__in": values})
        elif key == "release":
            found = found.filter(_running([str(value) for value in values]))
        else:
            since = (now or clock.now()).date() - timedelta(days=CONTEXT_DAYS)
            found = found.filter(pk__in=_mostly(key, [str(value) for value in values], since))
    return found


def frames_in(group: FrameGroup, now: datetime | None = None) -> QuerySet[Frame]:
    """The frames of a group now. Raises Refused when the stored query cannot be read."""
    return frames_matching(group.query, now)


def name_releases(digest_of: Callable[[str], str | None]) -> None:
    """From now on ``release=name version`` is understood: ``digest_of`` finds its digest, None for no such release."""
    _digest_of[0] = digest_of


_digest_of: list[Callable[[str], str | None]] = [lambda name: None]


def _running(releases: list[str]) -> Q:
    found = Q(pk__in=[])
    for one in releases:
        digest = _digest_of[0](one)
        if digest is not None:
            found |= Q(reported__release=digest)
        elif _DIGEST.fullmatch(one):
            found |= Q(reported__release__startswith=one)
    return found


def _mostly(key: str, values: list[str], since: date) -> QuerySet[ContextDay, str]:
    """Ids of frames at least half of whose playbacks that tell ``key`` had one of its ``values``."""
    # Words stand in a fixed order and are delimited by spaces: no word is part of another one.
    had = Q(pk__in=[])
    for value in values:
        had |= Q(context__contains=f"{key}={value}")
    days = ContextDay.objects.filter(day__gte=since, context__contains=f"{key}=")
    sums = days.values("frame_id").annotate(told=Sum("playbacks"), had=Sum("playbacks", filter=had, default=0))
    return sums.filter(had__gt=0, had__gte=F("told") - F("had")).values_list("frame_id", flat=True)


def _value(key: str, value: str) -> str | bool:
    if "\0" in value:
        raise Refused(Reason.BAD_MESSAGE, "A group's query must not hold a NUL character.")
    if key == "simulated":
        if value.lower() not in _SWITCH:
            raise Refused(Reason.BAD_MESSAGE, f"simulated={value} is neither simulated=true nor simulated=false.")
        return _SWITCH[value.lower()]
    if key == "id" and not is_frame_id(value):
        raise Refused(Reason.BAD_MESSAGE, f"{value!r} is no frame id: use 1 to 40 of a-z, 0-9 and '-'.")
    if key == "timezone" and not is_timezone(value):
        raise Refused(Reason.BAD_MESSAGE, f"{value!r} is no time zone: use an IANA name such as Asia/Shanghai.")
    if key in CONTEXTS and value not in CONTEXTS[key]:
        raise Refused(Reason.BAD_MESSAGE, f"{key}={value} is unknown: use {', '.join(CONTEXTS[key])}.")
    if key == "release" and not _DIGEST.fullmatch(value) and _digest_of[0](value) is None:
        raise Refused(
            Reason.BAD_MESSAGE,
            f'There is no release {value!r}: write "name version", or 8 or more digits of its digest.',
        )
    return value
