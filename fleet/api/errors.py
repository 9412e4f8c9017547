"""Every error of the REST API is ``{"detail": "<one sentence>"}``."""

import logging
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import status
from rest_framework.exceptions import APIException, MethodNotAllowed, NotAuthenticated, UnsupportedMediaType
from rest_framework.response import Response
from rest_framework.views import exception_handler as framework_handler

from protocol.errors import Refused

log = logging.getLogger(__name__)

AWAY = "The database does not answer: try again in a few seconds, and look into its log when that does not help."
FAILED = "The server failed on this request: look into its log."


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
    if response is None and is_database_away(error):
        log.warning("The database does not answer (%s)", str(error).strip().partition("\n")[0])
        return Response({"detail": AWAY}, status=status.HTTP_503_SERVICE_UNAVAILABLE, headers={"Retry-After": "2"})
    if response is None:
        log.error("The REST API failed on %s", context["request"].path, exc_info=error)
        return Response({"detail": FAILED}, status=status.HTTP_500_INTERNAL_SERVER_ERROR)
    response.data = {"detail": _what_to_do(error, context) or _sentence(response.data)}
    return response


def is_database_away(error: BaseException | None) -> bool:
    """Whether the same request can succeed once the database is back."""
    return isinstance(error, OperationalError | InterfaceError)


def _what_to_do(error: Exception, context: dict[str, Any]) -> str:
    """A sentence for what the framework only names; empty when it says enough itself."""
    match error:
        case NotAuthenticated():
            return "Send an API token: Authorization: Token <token> (manage.py create_api_token makes one)."
        case UnsupportedMediaType():
            return "The body is not JSON: send it with Content-Type: application/json."
        case MethodNotAllowed():
            methods = ", ".join(method for method in context["view"].allowed_methods if method != "OPTIONS")
            return f"{context['request'].method} does nothing here: use {methods}."
    return ""


@csrf_exempt
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
