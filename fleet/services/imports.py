"""Many frames at once, from the CSV of whoever makes them. All lines are taken in, or none."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from django.db import transaction
from django.utils import timezone

from fleet.models import Frame, Household
from fleet.pki import RESERVED
from fleet.services.audit import audit
from fleet.services.claims import LIFE, NewClaim, check_life, make_claims
from fleet.services.places import SITE_RULE, is_site, is_timezone
from protocol.errors import Reason, Refused
from protocol.topics import is_frame_id

COLUMNS = ("frame_id", "household", "locale", "hardware")
PLACE = {"timezone": "UTC", "site": ""}
"""Columns that may be there too, with what holds where they or a value are missing."""
MAX_LINES = 100_000
MAX_LINE = 1_000
"""Characters."""
TOLD = 20
"""Bad lines that are named; of further ones only the count is told."""
BATCH = 2_000
_PATTERNS = {
    "household": (re.compile(r"[A-Za-z0-9_-]{1,64}"), "1 to 64 of A-Z, a-z, 0-9, '-' and '_'"),
    "locale": (re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}"), "a locale such as zh or en-GB"),
    "hardware": (re.compile(r"[a-z0-9][a-z0-9._-]{0,63}"), "1 to 64 of a-z, 0-9, '.', '-' and '_'"),
}


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    frame_id: str
    household: str
    locale: str
    hardware: str
    timezone: str
    site: str


class _Problems:
    """What is wrong, line by line; the first ones are kept."""

    def __init__(self) -> None:
        self._told: list[str] = []
        self._count = 0

    def add(self, number: int, what: str) -> None:
        self._count += 1
        if len(self._told) < TOLD:
            self._told.append(f"line {number}: {what}")

    def raise_if_any(self) -> None:
        if not self._count:
            return
        more = f"; and {self._count - len(self._told)} more" if self._count > len(self._told) else ""
        raise Refused(
            Reason.BAD_MESSAGE,
            f"No frame was taken in: put these lines right and send all of them again. {'; '.join(self._told)}{more}.",
        )


@transaction.atomic
def import_frames(
    lines: Iterable[str], actor: str, *, life: timedelta = LIFE, now: datetime | None = None
) -> list[NewClaim]:
    """Make these frames known, not born yet, each with a claim. ``lines`` is CSV with a heading of COLUMNS, and of
    what it has of PLACE.

    Frames that are known and not born yet are taken again with a new claim, so that a lost answer can be asked for
    again. Raises Refused that names every bad line; nothing is stored then.
    """
    now = now or timezone.now()
    check_life(life)
    problems = _Problems()
    claims: list[NewClaim] = []
    seen: set[str] = set()
    read = _read(lines, problems, seen)
    while batch := list(islice(read, BATCH)):
        claims += _store(batch, actor, problems, life, now)
    problems.raise_if_any()
    if not claims:
        raise Refused(Reason.BAD_MESSAGE, "There is no frame in this file: give one line for each below the heading.")
    audit(actor, "import_frames", f"{len(claims)} frames", {"first": claims[0].frame_id, "last": claims[-1].frame_id})
    return claims


def _read(lines: Iterable[str], problems: _Problems, seen: set[str]) -> Iterator[_Line]:
    """The good lines, one after the other; stops where CSV itself is broken."""
    reader = csv.reader(_bounded(lines, problems), strict=True)
    places: dict[str, int] | None = None
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if places is None:
                places = _places(fields)
                continue
            if len(fields) != len(places):
                problems.add(reader.line_num, f"has {len(fields)} columns instead of {len(places)}")
                continue
            values = {name: fields[place].strip() for name, place in places.items()}
            line = _Line(
                reader.line_num, **PLACE | {name: value for name, value in values.items() if value or name in COLUMNS}
            )
            what = _wrong(line, seen)
            if what:
                problems.add(line.number, what)
                continue
            seen.add(line.frame_id)
            if len(seen) > MAX_LINES:
                raise Refused(Reason.BAD_MESSAGE, f"Send at most {MAX_LINES} frames at once: split the file.")
            yield line
    except csv.Error as error:
        problems.add(reader.line_num, f"is no CSV ({error})")
    except UnicodeDecodeError:
        problems.add(reader.line_num + 1, "is not in UTF-8")


def _bounded(lines: Iterable[str], problems: _Problems) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE:
            problems.add(number, f"has more than {MAX_LINE} characters")
            return
        yield line


def _places(heading: list[str]) -> dict[str, int]:
    found = [name.strip().lower() for name in heading]
    if sorted(set(found) - set(PLACE)) != sorted(COLUMNS) or len(set(found)) != len(found):
        said = ",".join(found)[:100]
        raise Refused(
            Reason.BAD_MESSAGE,
            f"The first line names the columns {','.join(COLUMNS)} and, if you like, {','.join(PLACE)}, not {said!r}.",
        )
    return {name: place for place, name in enumerate(found)}


def _wrong(line: _Line, seen: set[str]) -> str:
    if not is_frame_id(line.frame_id) or line.frame_id in RESERVED:
        return f"{line.frame_id[:50]!r} cannot be a frame's id: use 1 to 40 of a-z, 0-9 and '-'"
    if line.frame_id in seen:
        return f"{line.frame_id} stands there twice"
    for name, (pattern, rule) in _PATTERNS.items():
        value = getattr(line, name)
        if pattern.fullmatch(value) is None:
            return f"the {name} {value[:50]!r} is not {rule}"
    if not is_timezone(line.timezone):
        return f"the timezone {line.timezone[:50]!r} is not an IANA name such as Asia/Shanghai"
    if not is_site(line.site):
        return f"the site {line.site[:50]!r} is not {SITE_RULE}"
    return ""


def _store(batch: list[_Line], actor: str, problems: _Problems, life: timedelta, now: datetime) -> list[NewClaim]:
    known = dict(
        Frame.objects.select_for_update()
        .filter(pk__in=[line.frame_id for line in batch])
        .order_by("pk")
        .values_list("pk", "lifecycle")
    )
    for line in batch:
        state = known.get(line.frame_id, Frame.Lifecycle.AWAITED)
        if state == Frame.Lifecycle.ACTIVE:
            problems.add(line.number, f"{line.frame_id} is in service already")
        elif state == Frame.Lifecycle.RETIRED:
            problems.add(line.number, f"{line.frame_id} is retired: replace it to use its id again")
    Household.objects.bulk_create([Household(pk=line.household) for line in batch], ignore_conflicts=True)
    Frame.objects.bulk_create(
        [
            Frame(
                pk=line.frame_id,
                household_id=line.household,
                hardware=line.hardware,
                locale=line.locale,
                timezone=line.timezone,
                site=line.site,
                lifecycle=Frame.Lifecycle.AWAITED,
                enrolled_at=now,
            )
            for line in batch
        ],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["household", "hardware", "locale", *PLACE],
    )
    return list(make_claims([line.frame_id for line in batch], actor, life=life, now=now))
