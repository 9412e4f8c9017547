"""Reading JSON bodies: bounded, and nothing in them that a database cannot hold."""

import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework import status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

MAX_JSON = 2 * 1024 * 1024
"""Bytes of a JSON body: a release's manifest and documents, with room to spare."""


class TooLarge(APIException):
    """The body has more bytes than this address takes."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = f"The body has more than {MAX_JSON} bytes: send less at once."


class JsonBody(BaseParser):
    """A JSON body in UTF-8."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """What the body holds. Raises TooLarge, ParseError."""
        body = stream.read(MAX_JSON + 1)
        if len(body) > MAX_JSON:
            raise TooLarge
        try:
            found = json.loads(body.decode(), parse_constant=_refuse_constant)
            # A lone surrogate (\ud800) is fine JSON but no text: nothing can store or print it.
            json.dumps(found, ensure_ascii=False).encode()
        except RecursionError:
            raise ParseError(
                "The body is nested too deeply: send the object that docs/architecture.md shows."
            ) from None
        except UnicodeEncodeError:
            raise ParseError("The body holds half a character (a lone surrogate): send whole ones.") from None
        except ValueError as error:
            raise ParseError(f"The body is not JSON in UTF-8 ({_short(error)}): send a JSON object.") from None
        return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _short(error: ValueError) -> str:
    return str(error).partition(";")[0][:120]
