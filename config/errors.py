"""Errors that no view has caught: one sentence, as JSON below ``/api/`` and as a plain text elsewhere."""

import sys

from django.http import HttpRequest, HttpResponse, JsonResponse

from fleet.api.errors import AWAY, FAILED, is_database_away


def answer(request: HttpRequest, status: int, sentence: str) -> HttpResponse:
    """The error as whoever asked can read it."""
    if request.path.startswith("/api/"):
        return JsonResponse({"detail": sentence}, status=status)
    return HttpResponse(f"{sentence}\n", status=status, content_type="text/plain; charset=utf-8")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A request that Django itself refuses, such as one for another host."""
    return answer(
        request, 400, "The server does not take this request: check the address; FRAMEFLEET_HOSTS lists its host names."
    )


def forbidden(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form that was not sent from a page of this server (CSRF)."""
    return answer(
        request, 403, "This form was not sent from a fresh page: allow cookies, load the page again and repeat it."
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """A fault of ours, or of the database."""
    if is_database_away(sys.exc_info()[1]):
        return answer(request, 503, AWAY)
    return answer(request, 500, FAILED)
