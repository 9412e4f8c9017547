"""One's own second factor: adding an app by its QR code, recovery codes, removing it."""

import base64
import io
from typing import cast

import django_otp
import segno
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_otp.plugins.otp_totp.models import TOTPDevice

from dashboards.views.pages import own_page
from fleet.services import second_factor
from fleet.services.second_factor import HasApp


def _wrong() -> str:
    return _("This code is not right, or it came too soon after a wrong one: wait for the next and try again.")


@own_page
@sensitive_post_parameters("code")
@require_http_methods(["GET", "POST"])
def two_factor(request: HttpRequest) -> HttpResponse:
    """The QR code, and the field for the first code that the app shows."""
    user = _user(request)
    problem, status = "", 200
    if request.method == "POST":
        done = second_factor.confirm(user, request.POST.get("code", ""))
        if done is not None:
            device, codes = done
            request.session.cycle_key()
            django_otp.login(request, device)
            return _show_codes(request, codes)
        problem, status = _wrong(), 400
    try:
        device = second_factor.begin(user)
    except HasApp:
        return render(request, "dashboards/two_factor_there.html", _there(user))
    context = {
        "section": "account",
        "secret": _secret(device),
        "problem": problem,
        "required": second_factor.is_required(user),
    }
    return render(request, "dashboards/two_factor.html", context, status=status)


@own_page
@require_safe
def qr(request: HttpRequest) -> HttpResponse:
    """The QR code of the app that is being added, as SVG."""
    device = TOTPDevice.objects.filter(user=_user(request), confirmed=False).first()
    if device is None or second_factor.app_of(_user(request)) is not None:
        raise Http404
    out = io.BytesIO()
    segno.make(device.config_url, error="m").save(out, kind="svg", scale=5, dark="#000", light="#fff", xmldecl=False)
    return HttpResponse(out.getvalue(), content_type="image/svg+xml")


@own_page
@sensitive_post_parameters("code")
@require_POST
def change(request: HttpRequest, what: str) -> HttpResponse:
    """New recovery codes, or no second factor any more. Both ask for a code first."""
    user = _user(request)
    if what not in ("codes", "remove"):
        raise Http404
    if second_factor.app_of(user) is None:
        return redirect("two_factor")
    if second_factor.check(user, request.POST.get("code", "")) is None:
        return render(request, "dashboards/two_factor_there.html", {**_there(user), "problem": _wrong()}, status=400)
    if what == "codes":
        return _show_codes(request, second_factor.renew_codes(user))
    second_factor.remove(user, user.get_username())
    messages.success(request, _("Your second factor is removed."))
    return redirect("account")


def _show_codes(request: HttpRequest, codes: list[str]) -> HttpResponse:
    return render(request, "dashboards/recovery_codes.html", {"section": "account", "codes": codes})


def _there(user: User) -> dict[str, object]:
    return {
        "section": "account",
        "codes_left": user.recovery_codes.count(),
        "required": second_factor.is_required(user),
    }


def _secret(device: TOTPDevice) -> str:
    """What people type who cannot scan, in groups of four."""
    return second_factor.readable(base64.b32encode(device.bin_key).decode().rstrip("=")).replace("-", " ")


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)  # login_required
