"""Logging in: the password, then the code where the user has an app for it. One throttle counts wrong ones of both.

Between the two the session names whom the password was right for, and opens nothing.
"""

import time
from dataclasses import dataclass
from typing import Any

import django_otp
from axes.handlers.proxy import AxesProxyHandler
from django.conf import settings
from django.contrib.auth import login as begin_session
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from fleet.services import second_factor
from fleet.services.logins import note_failure, note_login, note_logout
from fleet.throttle import client_address, forgive

PENDING = "pending_login"
PENDING_S = 300
MAX_CODES = 5
"""Wrong codes after one right password."""
BACKEND = "django.contrib.auth.backends.ModelBackend"


class Login(LoginView):
    """Username and password."""

    template_name = "dashboards/login.html"

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """To the console, or to the page that asks for the code."""
        user = form.get_user()
        if second_factor.app_of(user) is None:
            return _enter(self.request, user, self.get_success_url())
        self.request.session.flush()
        self.request.session[PENDING] = {
            "user": user.pk,
            "hash": user.get_session_auth_hash(),
            "at": time.time(),
            "next": self.get_success_url(),
            "wrong": 0,
        }
        return redirect("login_code")

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """The form again, with one sentence."""
        _note_failure(self.request, form.cleaned_data.get("username", ""), "password")
        return super().form_invalid(form)


class Logout(LogoutView):
    """By POST alone."""

    http_method_names = ["post", "options"]  # noqa: RUF012  as Django has it

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Ends the session."""
        if isinstance(request.user, User):
            note_logout(request.user)
        return super().post(request, *args, **kwargs)


@dataclass(frozen=True)
class Pending:
    """Whose password was right."""

    user: User
    next: str


@sensitive_post_parameters("code")
@never_cache
@require_http_methods(["GET", "POST"])
def login_code(request: HttpRequest) -> HttpResponse:
    """The code of the app, or a recovery code."""
    pending = _pending(request)
    if pending is None:
        return redirect("login")
    problem, name = "", pending.user.get_username()
    if request.method == "POST":
        if not AxesProxyHandler.is_allowed(request, {"username": name}):
            return locked(request)
        right = second_factor.check(pending.user, request.POST.get("code", ""))
        if right is not None:
            device, kind = right
            return _enter(request, pending.user, pending.next, device, kind)
        user_login_failed.send(sender=__name__, credentials={"username": name}, request=request)
        _note_failure(request, name, "code")
        kept = request.session[PENDING]
        request.session[PENDING] = {**kept, "wrong": kept["wrong"] + 1}
        if kept["wrong"] + 1 >= MAX_CODES:
            request.session.flush()
            return redirect("login")
        problem = _("This code is not right, or it came too soon after a wrong one: wait for the next and try again.")
    return render(request, "dashboards/login_code.html", {"problem": problem}, status=200)


def locked(request: HttpRequest, response: HttpResponse | None = None, credentials: object = None) -> HttpResponse:
    """What django-axes answers to whoever failed too often."""
    wait = settings.AXES_COOLOFF_TIME
    minutes = int(wait.total_seconds() // 60)
    problem = _("Too many wrong tries from here: wait {minutes} minutes, then log in.").format(minutes=minutes)
    answer = render(request, "dashboards/login.html", {"problem": problem}, status=429)
    answer.headers["Retry-After"] = str(int(wait.total_seconds()))
    return answer


def _pending(request: HttpRequest) -> Pending | None:
    """Whose code is waited for; None when nobody's is, it took too long, or the password has changed meanwhile."""
    kept = request.session.get(PENDING)
    if not isinstance(kept, dict) or not 0 <= time.time() - kept["at"] <= PENDING_S:
        return None
    user = User.objects.filter(pk=kept["user"], is_active=True).first()
    if user is None or user.get_session_auth_hash() != kept["hash"]:
        return None
    return Pending(user, kept["next"])


def _enter(request: HttpRequest, user: User, where: str, device: Any = None, kind: str | None = None) -> HttpResponse:
    begin_session(request, user, BACKEND)  # a new session key: one that somebody planted is worth nothing
    request.session.pop(PENDING, None)
    if device is not None:
        django_otp.login(request, device)
    forgive(request, user.get_username())
    note_login(user, client_address(request), kind)
    return redirect(where)


def _note_failure(request: HttpRequest, username: str, what: str) -> None:
    # None: the throttle refused before anything was looked at, so nothing failed.
    if getattr(request, "axes_failures_since_start", None) is not None:
        locked_now = bool(getattr(request, "axes_locked_out", False))
        note_failure(username, client_address(request), what, locked=locked_now)
