"""Numbers as people read them, in the reader's language."""

from datetime import date
from decimal import Decimal

from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def decimal(value: float, digits: int = 1) -> str:
    """``value`` rounded to ``digits`` decimals. Django's own formatting of a float cuts instead of rounding."""
    return str(number_format(Decimal(f"{value:.{digits}f}"), decimal_pos=digits, force_grouping=True))


def percent(share: float, digits: int = 1) -> str:
    """A share of 0 to 1 in per cent; whole ones without decimals when ``digits`` is 0."""
    return _("{number} %").format(number=decimal(share * 100, digits))


def share(value: float) -> str:
    """A stage's share: as few decimals as it needs."""
    digits = next((d for d in (0, 1, 2) if abs(value * 100 - round(value * 100, d)) < 1e-9), 3)
    return percent(value, digits)


def watts(value: float) -> str:
    return _("{number} W").format(number=decimal(value, 2))


def duration(seconds: float) -> str:
    """Two units at most: "under 1 s", "14 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    if 0 < seconds < 1:
        return _("under 1 s")
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return _("{seconds} s").format(seconds=whole)
    if whole < HOUR:
        return _("{minutes} min {seconds} s").format(minutes=whole // MINUTE, seconds=whole % MINUTE)
    if whole < DAY:
        return _("{hours} h {minutes} min").format(hours=whole // HOUR, minutes=whole % HOUR // MINUTE)
    return _("{days} d {hours} h").format(days=whole // DAY, hours=whole % DAY // HOUR)


def day(value: date) -> str:
    """A day on an axis, short and without its year."""
    # Translators: Django's date format of a day without its year: "Nov 7".
    return str(date_format(value, pgettext("date format", "M j")))
