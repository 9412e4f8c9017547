"""What every page of the console has in common."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

View = Callable[..., HttpResponse]


def page(view: View) -> View:
    """For people who are logged in. The answer has an ETag, so that a live part that did not change costs no bytes."""
    wrapped: View = cache_control(private=True, no_cache=True)(conditional_page(login_required(view)))
    return wraps(view)(wrapped)


def render_live(request: HttpRequest, template: str, part: str, context: dict[str, Any]) -> HttpResponse:
    """The whole page, or with ``?part=live`` only the part that console.js exchanges."""
    if request.GET.get("part") == "live":
        return render(request, part, context)
    return render(request, template, {**context, "part": part, "live_url": f"{request.path}?part=live"})
