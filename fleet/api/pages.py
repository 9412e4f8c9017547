"""Lists in pages: ``{"results": [...], "next": cursor or null}``, where the cursor is the last id of the page."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from fleet.api.errors import BadRequest

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
OTHER_CURSOR = "This cursor is not one of ours: take it from the page before."

M = TypeVar("M", bound=Model)


def page(request: Request, rows: "QuerySet[M]", show: Callable[[M], dict[str, Any]], key: str = "pk") -> Response:
    """One page of ``rows``, which are ordered by ``key`` upwards; ``?limit=`` and ``?cursor=`` choose it."""
    limit = limit_of(request, DEFAULT_LIMIT, MAX_LIMIT)
    cursor = request.query_params.get("cursor", "")
    if cursor:
        try:
            rows = rows.filter(**{f"{key}__gt": cursor})
        except ValueError:
            raise BadRequest(OTHER_CURSOR) from None
    found = list(rows[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    return Response({"results": [show(row) for row in found], "next": str(getattr(found[-1], key)) if more else None})


def limit_of(request: Request, default: int, most: int) -> int:
    """``?limit=``, ``default`` without it. Raises BadRequest."""
    text = request.query_params.get("limit", "")
    if not text:
        return default
    # Not longer than a sensible number: reading thousands of digits is refused by Python itself.
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most):
        raise BadRequest(f"limit={text[:20]} is no page size: use 1 to {most}.")
    return int(text)
