"""What every page of the console has in common."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from dashboards import words
from fleet.permissions import LEAST, Action, may, role_of

View = Callable[..., HttpResponse]


def page(view: View) -> View:
    """For people who may read. The answer has an ETag, so that a live part that did not change costs no bytes."""
    wrapped: View = cache_control(private=True, no_cache=True)(
        conditional_page(login_required(needs(Action.READ)(view)))
    )
    return wraps(view)(wrapped)


def own_page(view: View) -> View:
    """For everybody who is logged in, about themselves; kept nowhere."""
    wrapped: View = cache_control(private=True, no_store=True)(login_required(view))
    return wraps(view)(wrapped)


def needs(action: Action) -> Callable[[View], View]:
    """A view that only those open who may do this; the others get one sentence. Goes below ``page``."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            return view(request, *args, **kwargs) if may(request.user, action) else forbidden(request, action)

        return guarded

    return decorate


def forbidden(request: HttpRequest, action: Action) -> HttpResponse:
    """403, as a page that says which role is missing."""
    return render(request, "dashboards/forbidden.html", {"sentence": why_not(request, action)}, status=403)


def why_not(request: HttpRequest, action: Action) -> str:
    """Why the person may not do this, in one sentence; empty when they may."""
    if may(request.user, action):
        return ""
    role = role_of(request.user)
    if role is None:
        return _("You have no role yet: ask an admin for one.")
    return _("This needs the role {least} or a higher one; yours is {role}.").format(
        least=words.role(LEAST[action].word), role=words.role(role.word)
    )


def render_live(request: HttpRequest, template: str, part: str, context: dict[str, Any]) -> HttpResponse:
    """The whole page, or with ``?part=live`` only the part that console.js exchanges."""
    if request.GET.get("part") == "live":
        return render(request, part, context)
    return render(request, template, {**context, "part": part, "live_url": f"{request.path}?part=live"})
