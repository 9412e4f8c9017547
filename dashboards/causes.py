"""What the engine found, in the reader's language. Pure.

The engine keeps a code with parameters beside its English sentence; whatever cannot be read here falls back to that
sentence, so that nothing is lost.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from django.utils.translation import gettext, pgettext

from dashboards import words, words_verdict
from ota.domain.causes import SENTENCES, Cause, Code
from ota.domain.rollout import NotAllowed
from ota.selectors_now import Waiting


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


def explained(code: str, parameters: Mapping[str, int | str], sentence: str) -> str:
    """A cause given as its parts; ``sentence`` is what is left where it cannot be read."""
    try:
        return said(Cause(Code(code), parameters))
    except (ValueError, KeyError, IndexError):
        return sentence


def of(refused: NotAllowed) -> str:
    """Why something is not allowed, in the reader's language where there is more than the sentence."""
    return said(refused.cause) if refused.cause is not None else str(refused)


def awaited(waiting: Waiting | None) -> str:
    """What a rollout waits for; "" for nothing."""
    return "" if waiting is None else explained(waiting.code, waiting.parameters, waiting.sentence)


def _parameter(name: str, value: str) -> str:
    match name:
        case "state":
            return str(words.status(words.ROLLOUT, value.replace(" ", "_")).word).lower()
        case "command":
            return _known(value)
        case "metric":
            return _known(value).lower()
        case "possible" | "why":
            return pgettext("between the items of a list", ", ").join(_known(one) for one in value.split(", "))
        case "install":
            return str(words.status(words.INSTALL, value).word)
        case "failure":
            return str(words.reason(value))
        case "time":
            return _time(value)
        case _:
            return value


def _known(name: str) -> str:
    """A command, metric, policy or a verdict's reason in words."""
    for table in (words.COMMAND, words_verdict.WHY, words_verdict.GUARDRAIL, words_verdict.POLICY):
        if name in table:
            return str(table[name])
    return name


def _time(value: str) -> str:
    """A moment in UTC, to the minute; one without a time zone as it was written."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    if moment.tzinfo is None:
        return moment.isoformat(" ")
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
