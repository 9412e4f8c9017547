"""One's own account: role, password, second factor, API tokens. Admins see everybody's tokens."""

from datetime import timedelta
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.contrib.auth.views import PasswordChangeView
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from dashboards import words
from dashboards.views.pages import needs, own_page
from fleet.models import ApiToken
from fleet.permissions import SCOPES, Action, may, role_of
from fleet.services import second_factor
from fleet.services.audit import audit
from fleet.services.tokens import MAX_NAME, check_name, create_token, revoke_token
from protocol.errors import Refused

LIFETIMES = (7, 30, 90, 365)
DEFAULT_DAYS = 90
NEVER = "never"


@own_page
@require_safe
def account(request: HttpRequest) -> HttpResponse:
    return _show(request)


@own_page
@require_POST
@needs(Action.READ)
def make_token(request: HttpRequest) -> HttpResponse:
    """Makes a token and shows it, once."""
    user, name = _user(request), request.POST.get("name", "").strip()
    scope, days = request.POST.get("scope", ""), request.POST.get("days", "")
    if (days != NEVER and days not in {str(known) for known in LIFETIMES}) or scope not in SCOPES:
        return _show(request, problem=_("Choose a scope and how long the token works."), name=name, status=400)
    lifetime = None if days == NEVER else timedelta(days=int(days))
    try:
        check_name(name)
        if ApiToken.objects.filter(user=user, name=name).exists():
            taken = _("You have a token of this name: revoke it first, or choose another name.")
            return _show(request, problem=taken, name=name, status=409)
        token = create_token(user, name, scope=scope, lifetime=lifetime, actor=user.get_username())
    except Refused:
        refused = _("A name has 1 to {count} characters, and a scope is at most as wide as your role.")
        return _show(request, problem=refused.format(count=MAX_NAME), name=name, status=400)
    return _show(request, made=token, status=201)


@own_page
@require_POST
def revoke(request: HttpRequest, token_id: int) -> HttpResponse:
    """Ends a token."""
    token = get_object_or_404(_visible(_user(request)), pk=token_id)
    revoke_token(token, request.user.get_username())
    messages.success(request, _("Revoked: {name} opens nothing any more.").format(name=token.name))
    return redirect("account")


class PasswordChange(PasswordChangeView):
    """Asks for the old password too; every other session of the user ends."""

    template_name = "dashboards/password.html"
    success_url = reverse_lazy("account")

    def form_valid(self, form: Any) -> HttpResponse:
        """Changes it."""
        answer = super().form_valid(form)
        audit(self.request.user.get_username(), "change_password", self.request.user.get_username())
        messages.success(self.request, _("Your password has changed; other sessions of yours have ended."))
        return answer


def _show(request: HttpRequest, status: int = 200, **context: Any) -> HttpResponse:
    user = _user(request)
    role, everybody = role_of(user), may(user, Action.MANAGE_PEOPLE)
    now = timezone.now()
    tokens = [
        (token, words.scope(token.scope), token.expires_at is not None and token.expires_at <= now)
        for token in _visible(user).order_by("user__username", "name")
    ]
    found = {
        "section": "account",
        "role_word": words.role(role.word) if role else "",
        "app": second_factor.app_of(user),
        "codes_left": user.recovery_codes.count(),
        "required": second_factor.is_required(user),
        "tokens": tokens,
        "everybody": everybody,
        "scopes": [(name, words.scope(name)) for name, worth in SCOPES.items() if role is not None and worth <= role],
        "lifetimes": LIFETIMES,
        "default_days": DEFAULT_DAYS,
        "max_name": MAX_NAME,
        **context,
    }
    return render(request, "dashboards/account.html", found, status=status)


def _visible(user: User) -> QuerySet[ApiToken]:
    rows = ApiToken.objects.select_related("user")
    return rows if may(user, Action.MANAGE_PEOPLE) else rows.filter(user=user)


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)  # login_required
