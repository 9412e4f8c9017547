"""Lists in pages, newest first: ``{"results": [...], "next": cursor or null}``."""

import datetime as dt
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from fleet.api.errors import BadRequest
from fleet.api.pages import limit_of

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

M = TypeVar("M", bound=Model)


def newest_first(
    request: Request, rows: "QuerySet[M]", show: Callable[[list[M]], list[dict[str, Any]]], key: str
) -> Response:
    """One page of ``rows`` by descending ``key``, which the cursor names; ``?limit=`` and ``?cursor=`` choose it."""
    limit = limit_of(request, DEFAULT_LIMIT, MAX_LIMIT)
    if cursor := request.query_params.get("cursor", ""):
        try:
            rows = rows.filter(**{f"{key}__lt": cursor})
        except (ValueError, ValidationError):
            raise BadRequest("This cursor is not one of ours: take it from the page before.") from None
    found = list(rows.order_by(f"-{key}")[: limit + 1])
    last = getattr(found[limit - 1], key) if len(found) > limit else None
    cursor_of_next = last.isoformat() if isinstance(last, dt.datetime) else last
    return Response({"results": show(found[:limit]), "next": None if cursor_of_next is None else str(cursor_of_next)})
