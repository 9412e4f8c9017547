"""What holds for every address, before any view sees the request."""

from collections.abc import Callable

from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import Resolver404, resolve

from config.errors import answer
from fleet.services import second_factor

NUL = "An address must not hold a NUL character: leave it out."
FEATURES = ("camera", "geolocation", "microphone", "payment", "usb", "serial", "display-capture")
PERMISSIONS = ", ".join(f"{feature}=()" for feature in FEATURES)
WITHOUT_SECOND_FACTOR = frozenset({"logout", "set_language", "two_factor", "two_factor_qr"})
"""Names of the pages that somebody opens who must add a second factor and has none yet."""

Handler = Callable[[HttpRequest], HttpResponse]


def refuse_nul(get_response: Handler) -> Handler:
    """PostgreSQL's text holds no NUL, so nothing that such an address names can exist."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if "\0" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
            return answer(request, 400, NUL)
        return get_response(request)

    return middleware


def permissions_policy(get_response: Handler) -> Handler:
    """No page of ours uses a camera, a microphone or the like, so none may."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS)
        return response

    return middleware


def second_factor_first(get_response: Handler) -> Handler:
    """A session without the second factor that its user has is worth nothing; one whose user must add a second factor
    opens only the page to do so. The REST API takes no sessions."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/api/"):
            return get_response(request)
        user = request.user
        if not user.is_authenticated or user.is_verified():  # type: ignore[attr-defined]  # by django-otp
            return get_response(request)
        if second_factor.app_of(user) is not None:  # added elsewhere since this session began
            logout(request)
            return redirect("login")
        if second_factor.is_required(user) and _name(request) not in WITHOUT_SECOND_FACTOR:
            return redirect("two_factor")
        return get_response(request)

    return middleware


def _name(request: HttpRequest) -> str:
    try:
        return resolve(request.path_info).url_name or ""
    except Resolver404:
        return ""
