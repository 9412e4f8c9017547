"""``claims/``: many frames made known at once, each with a claim for its label."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import IO, Any, ClassVar

from rest_framework import status
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest
from fleet.permissions import Action
from fleet.services.claims import LIFE, NewClaim, claim_url
from fleet.services.imports import MAX_LINE, import_frames

MAX_CSV = 16 * 1024 * 1024
"""Bytes of one import: 100,000 frames with the longest names have fewer."""
MAX_DAYS = 3650


class CsvBody(BaseParser):
    """A CSV body, read line by line."""

    media_type = "text/csv"

    def parse(  # type: ignore[override]  # what a parser returns is the view's own business
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Iterator[str]:
        """Its lines; half a character raises UnicodeDecodeError at its line."""
        return _lines(stream)


def _lines(stream: IO[bytes]) -> Iterator[str]:
    encoding = "utf-8-sig"  # spreadsheets begin with a mark
    while line := stream.readline(4 * MAX_LINE):
        yield line.decode(encoding, "replace" if len(line) == 4 * MAX_LINE else "strict")
        encoding = "utf-8"


class ClaimList(APIView):
    """``POST claims/?days=90`` with ``Content-Type: text/csv``"""

    actions: ClassVar = {"POST": Action.ENROL_FRAMES}
    parser_classes = (CsvBody,)

    def post(self, request: Request) -> Response:
        """All lines or none; the tokens are told this once."""
        made = import_frames(
            request.data, request.user.get_username(), life=life_of(request.query_params.get("days", ""))
        )
        return Response({"claims": [show_claim(one) for one in made]}, status=status.HTTP_201_CREATED)


def show_claim(claim: NewClaim) -> dict[str, str | None]:
    """A fresh claim; ``url`` is null where nobody has set FRAMEFLEET_BIRTH_URL."""
    return {"frame_id": claim.frame_id, "token": claim.token, "url": claim_url(claim.token)}


def life_of(days: object) -> timedelta:
    """``days`` of a query or a body, the default for none. Raises BadRequest."""
    if days in ("", None):
        return LIFE
    text = str(days)
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_DAYS):
        raise BadRequest(f"A claim is good for 1 to {MAX_DAYS} days, not {text[:20]!r}.")
    return timedelta(days=int(text))
