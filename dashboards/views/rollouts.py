"""The rollouts, one rollout's page, and the commands people give it."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from dashboards import causes, figures, rollout_page, selectors_rollout, verdict_page
from dashboards.commands import action, allowed, choice, choices
from dashboards.formats import decimal
from dashboards.lips import lip_charts
from dashboards.stage_strip import strip
from dashboards.trail import trail
from dashboards.views import comments, freezes
from dashboards.views.pages import forbidden, page, render_live, why_not
from dashboards.views.reasons import MAX_REASON, problem_with
from fleet import clock
from fleet.permissions import Action, may
from ota.domain.rollout import Command, NotAllowed
from ota.models import Rollout
from ota.selectors import RolloutDetail, rollout_detail, rollouts
from ota.selectors_looks import histories
from ota.services import rollouts as services
from ota.services.facts import plan_of

PER_PAGE = 20


@page
def rollout_list(request: HttpRequest) -> HttpResponse:
    below = request.GET.get("below", "")
    found = rollouts(PER_PAGE + 1, before=int(below) if below.isdecimal() and len(below) < 19 else None)
    now = clock.now()
    context = {
        "section": "rollouts",
        "rollouts": [(r, rollout_page.verdict(r), strip(r, now)) for r in found[:PER_PAGE]],
        **freezes.banner(request),
        "why_not": why_not(request, Action.START_ROLLOUT),
        "next": found[PER_PAGE - 1].id if len(found) > PER_PAGE else None,
    }
    return render(request, "dashboards/rollout_list.html", context)


@page
def rollout(request: HttpRequest, rollout_id: int) -> HttpResponse:
    row = get_object_or_404(Rollout.objects.select_related("release", "group"), pk=rollout_id)
    detail, now = rollout_detail(row), clock.now()
    looked = detail.verdict
    opened = [(stage.number, stage.opened_at) for stage in detail.stages if stage.opened_at is not None]
    context = {
        "section": "rollouts",
        "rollout": detail,
        "verdict": rollout_page.verdict(detail),
        "why": rollout_page.why(detail),
        "waits": causes.awaited(detail.waiting),
        "headline": verdict_page.headline(looked) if looked else None,
        "comment_why_not": why_not(request, comments.ACTION),
        "max_reason": MAX_REASON,
        "needed": decimal(looked.needed, 0) if looked else "",
        "guardrails": verdict_page.rows(looked) if looked else (),
        "benefits": verdict_page.benefits(looked) if looked else (),
        "pictures": verdict_page.pictures(
            histories(row), looked, figures.stage_marks(opened), simulated=detail.simulated > 0
        ),
        **freezes.banner(request),
        "stages": strip(detail, now, plan_of(row)),
        "choices": [
            (one, _address(detail, one.kind), why_not(request, action(Command(one.kind))))
            for one in choices(detail, selectors_rollout.returns(row))
        ],
        "metrics": figures.metric_lines(detail.metrics),
        "charts": figures.arm_charts(detail, opened),
        "lips": lip_charts(selectors_rollout.lip_rows(row)),
        "estimating": selectors_rollout.frames_estimating_power(row),
        "trail": trail(detail.events),
        "min_playbacks": figures.MIN_PLAYBACKS,
        "min_frames": figures.MIN_FRAMES,
    }
    return render_live(request, "dashboards/rollout.html", "dashboards/rollout_live.html", context)


@page
@require_http_methods(["GET", "POST"])
def command(request: HttpRequest, rollout_id: int, kind: str) -> HttpResponse:
    """Asks for a reason and a confirmation, then does it. What the person was looking at travels along."""
    if kind not in {known.value for known in Command}:
        raise Http404
    if not may(request.user, action(Command(kind))):
        return forbidden(request, action(Command(kind)))
    row = get_object_or_404(Rollout.objects.select_related("release", "group"), pk=rollout_id)
    given = request.POST if request.method == "POST" else request.GET
    reason, seen, problem, code = given.get("reason", "").strip(), given.get("seen_state", ""), "", 200
    if request.method == "POST":
        problem, code = problem_with(reason), 400
        if not problem:
            try:
                services.command(row.pk, kind, seen, request.user.get_username(), reason)
            except services.Stale:
                problem, code = _("The rollout has moved on since you looked. Read again, then confirm."), 409
            except NotAllowed as refused:
                problem, code = causes.of(refused), 409
            else:
                messages.success(request, _("Done. The trail below keeps who, when and why."))
                return redirect("rollout", rollout_id=row.pk)
        row.refresh_from_db()
    detail = rollout_detail(row)
    context = {
        "section": "rollouts",
        "rollout": detail,
        "verdict": rollout_page.verdict(detail),
        "choice": choice(detail, selectors_rollout.returns(row), Command(kind)),
        "allowed": allowed(detail, Command(kind)),
        "seen_state": seen if seen and code != 409 else detail.seen_state,
        "reason": reason,
        "problem": problem,
        "max_reason": MAX_REASON,
    }
    return render(request, "dashboards/rollout_command.html", context, status=code)


def _address(rollout: RolloutDetail, kind: str) -> str:
    """Where the command is confirmed; what the person is looking at travels along."""
    address = reverse("rollout_command", args=[rollout.id, kind])
    return f"{address}?{urlencode({'seen_state': rollout.seen_state})}"
