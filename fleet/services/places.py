"""Where frames hang: their time zone, and the uplink (site) they share. Rollouts keep to both."""

import re
from collections.abc import Collection
from functools import lru_cache
from zoneinfo import ZoneInfo

from django.db import transaction

from fleet.models import Frame
from fleet.services.audit import audit
from protocol.errors import Reason, Refused

MAX_ZONE = 64
MAX_AT_ONCE = 10_000
SITE_RULE = "1 to 64 of A-Z, a-z, 0-9, '-' and '_'"
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}")
_SITE = re.compile(r"[A-Za-z0-9_-]{1,64}")


@lru_cache(maxsize=1_000)
def is_timezone(name: str) -> bool:
    """Whether it is a name of the IANA time zone database, such as Asia/Shanghai."""
    if len(name) > MAX_ZONE or _ZONE.fullmatch(name) is None:
        return False
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such file, a folder such as "Europe", or no time zone in it
        return False
    return True


def is_site(name: str) -> bool:
    """Whether it can name a site; "" stands for the household's own uplink."""
    return not name or _SITE.fullmatch(name) is not None


def check_place(timezone: str | None, site: str | None) -> None:
    """Raises Refused with one sentence; None is not looked at."""
    if timezone is not None and not is_timezone(timezone):
        raise Refused(
            Reason.BAD_MESSAGE, f"{timezone[:MAX_ZONE]!r} is no time zone: use an IANA name such as Asia/Shanghai."
        )
    if site is not None and not is_site(site):
        raise Refused(Reason.BAD_MESSAGE, f"{site[:64]!r} cannot name a site: use {SITE_RULE}.")


@transaction.atomic
def set_place(frame_ids: Collection[str], actor: str, *, timezone: str | None = None, site: str | None = None) -> int:
    """Say where these frames hang; None leaves a fact as it is, site "" means each household's own uplink.

    Returns how many they are. Raises Refused with one sentence, also when one of them is not known; then nothing is
    changed.
    """
    if timezone is None and site is None:
        raise Refused(Reason.BAD_MESSAGE, "Say what to change: a time zone, a site or both.")
    check_place(timezone, site)
    wanted = {frame_id.replace("\0", "\N{REPLACEMENT CHARACTER}") for frame_id in frame_ids}
    if not 1 <= len(wanted) <= MAX_AT_ONCE:
        raise Refused(Reason.BAD_MESSAGE, f"Name 1 to {MAX_AT_ONCE} frames at once, not {len(wanted)}.")
    frames = Frame.objects.select_for_update(no_key=True).filter(pk__in=wanted).order_by("pk")
    known = list(frames.values_list("pk", flat=True))
    if missing := wanted.difference(known):
        raise Refused(Reason.BAD_MESSAGE, f"There is no frame {min(missing)[:50]!r}: nothing was changed.")
    changed = {name: value for name, value in (("timezone", timezone), ("site", site)) if value is not None}
    Frame.objects.filter(pk__in=known).update(**changed)
    subject = known[0] if len(known) == 1 else f"{len(known)} frames"
    audit(actor, "set_place", subject, {**changed, "first": known[0], "last": known[-1]})
    return len(known)
