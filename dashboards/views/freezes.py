"""The freeze of all rollouts: its banner, freezing and lifting."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from dashboards import causes
from dashboards.commands import Act
from dashboards.views.pages import needs, page, why_not
from dashboards.views.reasons import MAX_REASON, problem_with
from fleet.permissions import Action
from ota.domain.rollout import NotAllowed
from ota.services import freezes

FREEZE, LIFT = Action.STEER_ROLLOUT, Action.START_ROLLOUT


def banner(request: HttpRequest) -> dict[str, Any]:
    """What ``freeze.html`` shows: the freeze that stands, and why the person may not lift it."""
    return {"freeze": freezes.current(), "freeze_why_not": why_not(request, LIFT)}


@page
@needs(FREEZE)
@require_http_methods(["GET", "POST"])
def freeze(request: HttpRequest) -> HttpResponse:
    """Asks for a reason, then nothing is offered any more."""
    effect = _(
        "Nothing is offered to any frame, but in an emergency, until somebody lifts the freeze. Rollbacks go on, and "
        "so does what a frame has begun."
    )
    act = Act("freeze", _("Freeze all rollouts"), "pause", "danger", effect)
    return _confirmed(request, act, allowed=freezes.current() is None)


@page
@needs(LIFT)
@require_http_methods(["GET", "POST"])
def lift(request: HttpRequest) -> HttpResponse:
    """Asks for a reason, then rollouts go on."""
    effect = _("Rollouts go on where they stood: frames of the open stages are offered their releases.")
    act = Act("lift", _("Lift the freeze"), "play", "", effect)
    return _confirmed(request, act, allowed=freezes.current() is not None)


def _confirmed(request: HttpRequest, act: Act, *, allowed: bool) -> HttpResponse:
    reason, problem, status = request.POST.get("reason", "").strip(), "", 200
    if request.method == "POST":
        problem, status = problem_with(reason), 400
        if not problem:
            try:
                _do(act.kind, reason, request.user.get_username())
            except NotAllowed as refused:
                problem, status = causes.of(refused), 409
            else:
                messages.success(request, _("Done. The audit log keeps who, when and why."))
                return redirect("rollouts")
    context = {
        "section": "rollouts",
        "choice": act,
        "allowed": allowed or bool(problem),
        "reason": reason,
        "problem": problem,
        "max_reason": MAX_REASON,
    }
    return render(request, "dashboards/freeze_command.html", context, status=status)


def _do(kind: str, reason: str, actor: str) -> None:
    if kind == "freeze":
        freezes.freeze(reason, actor)
    else:
        freezes.lift(actor, reason)
