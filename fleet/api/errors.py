"""Every error of the REST API is ``{"detail": "<one sentence>"}``."""

import logging
from typing import Any

from django.http import HttpRequest, JsonResponse
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.views import exception_handler as framework_handler

from protocol.errors import Refused

log = logging.getLogger(__name__)


class Conflict(APIException):
    """What the caller was looking at has moved on."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "This changed while you were looking at it: look again."


class BadRequest(APIException):
    """The caller can put it right; the detail says how."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = "This request cannot be read."


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Any exception of a view as one sentence; a fault of ours is logged and says nothing of its inside."""
    if isinstance(error, Refused):
        return Response({"detail": error.detail, "reason": error.reason}, status=status.HTTP_400_BAD_REQUEST)
    response = framework_handler(error, context)
    if response is None:
        log.error("The REST API failed on %s", context["request"].path, exc_info=error)
        return Response(
            {"detail": "The server failed on this request: look into its log."},
            status=status.HTTP_500_INTERNAL_SERVER_ERROR,
        )
    response.data = {"detail": _sentence(response.data)}
    return response


def not_found(request: HttpRequest, rest: str = "") -> JsonResponse:
    """Any address below ``/api/`` that nothing answers."""
    return JsonResponse({"detail": f"There is nothing at {request.path}: see docs/architecture.md."}, status=404)


def _sentence(data: object) -> str:
    """DRF's nested error lists and dicts in one line."""
    if isinstance(data, dict):
        if set(data) == {"detail"}:
            return _sentence(data["detail"])
        return " ".join(f"{field}: {_sentence(value)}" for field, value in data.items())
    if isinstance(data, list):
        return " ".join(_sentence(item) for item in data)
    return str(data)
