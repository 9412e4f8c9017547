"""What holds for every address, before any view sees the request."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from config.errors import answer

NUL = "An address must not hold a NUL character: leave it out."


def refuse_nul(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """PostgreSQL's text holds no NUL, so nothing that such an address names can exist."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if "\0" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
            return answer(request, 400, NUL)
        return get_response(request)

    return middleware
