"""What people say about a rollout: a comment in its trail, or that they have seen its verdict."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from dashboards import causes
from dashboards.views.pages import needs, page
from dashboards.views.reasons import MAX_REASON
from fleet.permissions import Action
from ota.domain.rollout import NotAllowed
from ota.models import Look, Rollout
from ota.services import comments

ACTION = Action.STEER_ROLLOUT


@page
@needs(ACTION)
@require_http_methods(["GET", "POST"])
def comment(request: HttpRequest, rollout_id: int) -> HttpResponse:
    """The rollout page's form posts here; what is wrong comes back with the text."""
    rollout = get_object_or_404(Rollout.objects.select_related("release", "group"), pk=rollout_id)
    text, problem, status = request.POST.get("text", "").strip(), "", 200
    acknowledges = request.POST.get("kind") == "acknowledge"
    seen = request.POST.get("look", "")
    look = int(seen) if acknowledges and seen.isdecimal() and len(seen) < 19 else None
    if request.method == "POST":
        problem, status = _problem(rollout, text, look, acknowledges=acknowledges), 400
        if not problem:
            try:
                comments.comment(rollout.pk, text, request.user.get_username(), look)
            except NotAllowed as refused:
                problem, status = causes.of(refused), 409
            else:
                messages.success(request, _("Done. The trail below keeps who, when and why."))
                return redirect("rollout", rollout_id=rollout.pk)
    context = {
        "section": "rollouts",
        "rollout": rollout,
        "text": text,
        "look": seen,
        "problem": problem,
        "max_reason": MAX_REASON,
    }
    return render(request, "dashboards/comment.html", context, status=status)


def _problem(rollout: Rollout, text: str, look: int | None, *, acknowledges: bool) -> str:
    """What is wrong, in one sentence; empty when nothing is."""
    if acknowledges and not Look.objects.filter(pk=look or 0, rollout=rollout).exists():
        return _("This verdict is not there any more: look at the newest one, then acknowledge it.")
    if not text and not acknowledges:
        return _("Write what there is to say.")
    if len(text) > MAX_REASON or "\0" in text:
        return _("Write the reason in at most {count} plain characters.").format(count=MAX_REASON)
    return ""
