"""``audit/``: the audit log as it is chained, for ``framectl audit verify``."""

from typing import Any

import msgspec
from django.db.models import TextField
from django.db.models.functions import Cast
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest
from fleet.api.pages import MAX_LIMIT, OTHER_CURSOR, limit_of
from fleet.models import AuditEntry
from protocol.audit import AuditRecord


class AuditLog(APIView):
    """``GET audit/?cursor=&limit=``"""

    def get(self, request: Request) -> Response:
        """Entries upwards by number: ``{"results": [AuditRecord, ...], "next": number or null}``."""
        limit = limit_of(request, MAX_LIMIT, MAX_LIMIT)
        after = request.query_params.get("cursor", "") or "0"
        if not (after.isascii() and after.isdigit() and len(after) < 19):
            raise BadRequest(OTHER_CURSOR)
        rows = AuditEntry.objects.filter(number__gt=int(after)).order_by("number")
        found = [_record(row) for row in rows.annotate(text=Cast("detail", TextField()))[: limit + 1]]
        more = len(found) > limit
        results = msgspec.to_builtins(found[:limit])
        return Response({"results": results, "next": str(found[limit - 1].number) if more else None})


def _record(row: Any) -> AuditRecord:
    # Whole microseconds: a float of seconds cannot hold them.
    at_us = int(row.at.replace(microsecond=0).timestamp()) * 1_000_000 + row.at.microsecond
    return AuditRecord(
        number=row.number, at_us=at_us, actor=row.actor, action=row.action, subject=row.subject, detail=row.text,
        previous=row.previous, digest=row.digest,
    )  # fmt: skip
