"""The reason that people give for what they do."""

from django.utils.translation import gettext as _

MAX_REASON = 500


def problem_with(reason: str, most: int = MAX_REASON) -> str:
    """What is wrong with the reason, in one sentence; empty when nothing is."""
    if not reason:
        return _("Write why: the trail keeps it for whoever asks later.")
    if len(reason) > most or "\0" in reason:
        return _("Write the reason in at most {count} plain characters.").format(count=most)
    return ""
