"""What the engine found, in the reader's language. Pure.

The engine keeps a code with parameters beside its English sentence; whatever cannot be read here falls back to that
sentence, so that nothing is lost.
"""

from collections.abc import Mapping

from django.utils.translation import gettext, pgettext

from dashboards import words
from ota.domain.causes import SENTENCES, Cause, Code


def said(cause: Cause) -> str:
    """The cause's sentence in the reader's language."""
    parameters = {name: _parameter(name, str(value)) for name, value in cause.parameters.items()}
    return gettext(SENTENCES[cause.code]).format(**parameters)


def in_detail(detail: Mapping[str, object]) -> str:
    """The sentence of the cause that an event's detail keeps; "" when there is none that can be read."""
    kept = detail.get("cause")
    if not isinstance(kept, dict) or not isinstance(kept.get("parameters"), dict):
        return ""
    try:
        return said(Cause(Code(str(kept.get("code"))), kept["parameters"]))
    except (ValueError, KeyError, IndexError):  # written by another version
        return ""


def _parameter(name: str, value: str) -> str:
    match name:
        case "state":
            return str(words.status(words.ROLLOUT, value.replace(" ", "_")).word).lower()
        case "command":
            return _command(value)
        case "possible":
            return pgettext("between the items of a list", ", ").join(_command(one) for one in value.split(", "))
        case _:
            return value


def _command(name: str) -> str:
    return str(words.COMMAND.get(name, name))
