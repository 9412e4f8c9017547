"""Filters and tags of the console's templates. They only format; nothing here reads or decides."""

from datetime import datetime

from django import template
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext

from dashboards import icons, words
from dashboards.formats import decimal, watts
from fleet.models import FrameDay

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    return icons.icon(name)


@register.filter
def badge(status: words.Status) -> SafeString:
    """A status as icon, word and colour."""
    return format_html('<span class="status {}">{}{}</span>', status.tone, icons.icon(status.icon), status.word)


@register.filter
def rollout_badge(state: str) -> SafeString:
    return badge(words.status(words.ROLLOUT, state))


@register.filter
def install_badge(state: str) -> SafeString:
    return badge(words.status(words.INSTALL, state))


@register.filter
def lifecycle_badge(state: str) -> SafeString:
    return badge(words.status(words.LIFECYCLE, state))


@register.filter
def certificate_badge(state: str) -> SafeString:
    return badge(words.status(words.CERTIFICATE, state))


@register.filter
def reason_words(name: str) -> words.Words:
    return words.reason(name)


@register.filter
def moment(at: datetime | None) -> SafeString:
    """A moment as <time>, to the second and in UTC, or a dash."""
    if at is None:
        return format_html('<span class="muted">{}</span>', "–")
    at = localtime(at)
    return format_html(
        '<time datetime="{}" class="num nowrap">{}</time>', at.isoformat(), date_format(at, "Y-m-d H:i:s")
    )


@register.filter
def fixed(value: float | str | None, digits: int = 1) -> str:
    """A number with a fixed count of decimals, or a dash."""
    return "–" if value is None or isinstance(value, str) else decimal(value, digits)


@register.filter
def short(digest: str) -> str:
    """The first twelve characters of a digest: enough to tell two apart."""
    return digest[:12] if digest else gettext("none")


@register.filter
def arm_words(name: str) -> words.Words:
    return words.arm(name)


@register.filter
def entry(table: dict[str, str], key: str) -> str:
    """``table[key]``, "" when it is not there: templates cannot index by a variable."""
    return table.get(key, "")


@register.filter
def mean_power(row: FrameDay) -> str:
    """The mean power of one frame's day, or a dash."""
    return watts(row.power_sum_w / row.power_samples) if row.power_samples else "–"
