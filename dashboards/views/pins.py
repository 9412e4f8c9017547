"""Pinning one frame, so that no rollout touches it, and letting it go again."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from dashboards import causes
from dashboards.commands import Act
from dashboards.views.pages import needs, page
from dashboards.views.reasons import MAX_REASON, problem_with
from fleet.models import Frame
from fleet.permissions import Action
from ota.domain.rollout import NotAllowed
from ota.models import Release
from ota.services import pins

ACTION = Action.STEER_ROLLOUT


def acts(frame: Frame, *, pinned: bool) -> list[Act]:
    """What can be done about the frame's pin now."""
    change = Act(
        "pin",
        _("Change its pin") if pinned else _("Pin the frame"),
        "pin",
        "",
        _(
            "No rollout offers this 1 frame anything or takes anything back; an offer that it has not answered is "
            "withdrawn."
        ),
    )
    if not pinned:
        return [change] if frame.lifecycle == Frame.Lifecycle.ACTIVE else []
    free = Act(
        "unpin", _("Unpin the frame"), "undo", "", _("Rollouts may have this 1 frame again, at their next look.")
    )
    return [change, free] if frame.lifecycle == Frame.Lifecycle.ACTIVE else [free]


@page
@needs(ACTION)
@require_http_methods(["GET", "POST"])
def pin(request: HttpRequest, frame_id: str) -> HttpResponse:
    """Asks for a reason and a release, then pins."""
    return _confirmed(request, get_object_or_404(Frame, pk=frame_id), "pin")


@page
@needs(ACTION)
@require_http_methods(["GET", "POST"])
def unpin(request: HttpRequest, frame_id: str) -> HttpResponse:
    """Asks for a reason, then unpins."""
    return _confirmed(request, get_object_or_404(Frame, pk=frame_id), "unpin")


def _confirmed(request: HttpRequest, frame: Frame, kind: str) -> HttpResponse:
    possible = {act.kind: act for act in acts(frame, pinned=_pinned(frame))}
    reason, digest, problem, status = request.POST.get("reason", "").strip(), request.POST.get("release", ""), "", 200
    if request.method == "POST":
        problem, status = problem_with(reason), 400
        if not problem:
            try:
                _do(frame, kind, digest, reason, request.user.get_username())
            except NotAllowed as refused:
                problem, status = causes.of(refused), 409
            else:
                messages.success(request, _("Done. The audit log keeps who, when and why."))
                return redirect("frame", frame_id=frame.pk)
    act = possible.get(kind) or {one.kind: one for one in acts(frame, pinned=True)}.get(kind)
    context = {
        "section": "frames",
        "frame": frame,
        "choice": act or Act(kind, _("Pin the frame"), "pin", "", ""),
        "allowed": kind in possible or bool(problem),
        "reason": reason,
        "problem": problem,
        "max_reason": MAX_REASON,
        "releases": Release.objects.all() if kind == "pin" else (),
        "release": digest,
    }
    return render(request, "dashboards/frame_command.html", context, status=status)


def _do(frame: Frame, kind: str, digest: str, reason: str, actor: str) -> None:
    if kind == "unpin":
        pins.unpin(frame.pk, reason, actor)
    else:
        pins.pin(frame.pk, get_object_or_404(Release, pk=digest) if digest else None, reason, actor)


def _pinned(frame: Frame) -> bool:
    return getattr(frame, "pin", None) is not None
