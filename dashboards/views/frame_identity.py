"""Claiming, replacing, revoking and retiring one frame: each asks for a reason and says what it will do."""

import segno
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from dashboards.frame_commands import KINDS, allowed, choice, seen_state
from dashboards.views.pages import needs, page
from dashboards.views.reasons import problem_with
from fleet.models import Frame
from fleet.permissions import Action
from fleet.selectors import identity
from fleet.services import claims
from fleet.services import lifecycle as fleet_lifecycle
from fleet.services.claims import NewClaim, claim_url
from ota.services import lifecycle
from protocol.errors import Refused


@never_cache
@page
@needs(Action.ENROL_FRAMES)
@require_http_methods(["GET", "POST"])
def frame_command(request: HttpRequest, frame_id: str, kind: str) -> HttpResponse:
    """Asks for a reason and a confirmation, then does it. What the person was looking at travels along."""
    if kind not in KINDS:
        raise Http404
    frame = get_object_or_404(Frame, pk=frame_id)
    held = identity(frame)
    reason, problem, status = request.POST.get("reason", "").strip(), "", 200
    if request.method == "POST":
        if request.POST.get("seen_state") != seen_state(frame, held):
            problem, status = _("The frame has changed since you looked. Read again, then confirm."), 409
        elif problem := problem_with(reason, fleet_lifecycle.MAX_REASON):
            status = 400
        else:
            try:
                return _do(request, frame, kind, reason)
            except Refused as refused:
                problem, status = refused.detail, 409
    context = {
        "section": "frames",
        "frame": frame,
        "choice": choice(frame, held, kind),
        "allowed": allowed(frame, held, kind),
        "seen_state": seen_state(frame, held),
        "reason": reason,
        "problem": problem,
        "max_reason": fleet_lifecycle.MAX_REASON,
    }
    return render(request, "dashboards/frame_command.html", context, status=status)


def _do(request: HttpRequest, frame: Frame, kind: str, reason: str) -> HttpResponse:
    actor = request.user.get_username()
    match kind:
        case "claim":
            return _label(request, claims.claim_again(frame.pk, actor, reason=reason))
        case "replace":
            return _label(request, lifecycle.replace(frame.pk, actor, reason))
        case "revoke":
            fleet_lifecycle.revoke(frame.pk, actor, reason)
            messages.success(request, _("Done. Its certificates are revoked."))
        case _:
            lifecycle.retire(frame.pk, actor, reason)
            messages.success(request, _("Done. The frame is retired."))
    return redirect("frame", frame_id=frame.pk)


def _label(request: HttpRequest, claim: NewClaim) -> HttpResponse:
    """The claim, shown this once: nothing keeps the token."""
    content = claim_url(claim.token) or claim.token
    groups = [claim.token[at : at + 5] for at in range(0, len(claim.token), 5)]
    context = {"section": "frames", "frame_id": claim.frame_id, "groups": groups, "content": content}
    return render(request, "dashboards/frame_claim.html", {**context, "code": _drawn(content)})


def _drawn(content: str) -> SafeString:
    code = segno.make(content, error="m", micro=False)
    return mark_safe(  # noqa: S308  made of squares alone
        code.svg_inline(scale=6, border=4, dark="#000", light="#fff", svgclass="qr", lineclass=None)
    )
