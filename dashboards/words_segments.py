"""What segments' keys and the values of contexts are called on screen."""

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from dashboards.words import Words

KEY: dict[str, Words] = {
    "locale": _("Locale"),
    "hardware": _("Hardware"),
    "site": _("Site"),
    "timezone": _("Time zone"),
    "agent": _("Agent"),
    "release": _("Release"),
    "pose": _("Pose"),
    "loudness": _("Loudness"),
}
VALUE: dict[tuple[str, str], Words] = {
    ("pose", "frontal"): pgettext_lazy("pose", "frontal"),
    ("pose", "turned"): pgettext_lazy("pose", "turned"),
    ("loudness", "quiet"): pgettext_lazy("loudness", "quiet"),
    ("loudness", "normal"): pgettext_lazy("loudness", "normal"),
    ("loudness", "loud"): pgettext_lazy("loudness", "loud"),
}
BOTH = " & "
"""Between two conditions (``ota.selectors_segments``)."""


def key_words(key: str) -> str:
    """ "Locale", or "Locale & Pose"."""
    return BOTH.join(str(KEY.get(one, one)) for one in key.split(BOTH))


def value_words(key: str, value: str) -> str:
    """The value in words where it has any; others stay as they are."""
    keys, values = key.split(BOTH), value.split(BOTH)
    if len(keys) != len(values):
        return value
    return BOTH.join(str(VALUE.get(pair, pair[1])) for pair in zip(keys, values, strict=True))
