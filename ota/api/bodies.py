"""Reading request bodies: a field that is missing or odd is refused with one sentence."""

from typing import Any, TypeVar

from rest_framework.request import Request

from fleet.api.errors import BadRequest
from protocol.limits import MAX_TEXT

T = TypeVar("T")

_WORDS: dict[type, str] = {str: "a text", dict: "an object", list: "a list", bool: "true or false"}
_MISSING: Any = object()


def field(request: Request, name: str, kind: type[T], default: T = _MISSING) -> T:
    """The body's field ``name``. Raises BadRequest when it is missing (without a default) or no ``kind``."""
    body = request.data
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object: see docs/architecture.md.")
    value = body.get(name, default)
    if value is _MISSING:
        raise BadRequest(f'The body lacks "{name}": give {_WORDS[kind]}.')
    if not isinstance(value, kind):
        raise BadRequest(f'"{name}" must be {_WORDS[kind]}.')
    if "\0" in str(value):
        raise BadRequest(f'"{name}" must not hold a NUL character.')
    return value


def reason(request: Request) -> str:
    """The body's ``reason``, empty when there is none."""
    text = field(request, "reason", str, "").strip()
    if len(text) > MAX_TEXT:
        raise BadRequest(f'"reason" has at most {MAX_TEXT} characters, not {len(text)}.')
    return text
