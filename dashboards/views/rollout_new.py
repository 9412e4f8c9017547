"""Planning a rollout: the form, its preview, keeping it as a draft, starting it."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from dashboards import causes, selectors
from dashboards.plan_form import MAX_TEXT, PLAIN, Problem, Typed, plan_of
from dashboards.preview_page import Previewed, previewed
from dashboards.views import freezes
from dashboards.views.pages import needs, page
from dashboards.views.reasons import problem_with
from dashboards.words_verdict import GATE_NAME, GUARDRAIL, POLICY
from fleet import clock
from fleet.models import FrameGroup
from fleet.permissions import Action
from ota.domain.plan import GateKind, Plan, PlanRefused
from ota.domain.rollout import NotAllowed, RolloutState
from ota.models import Release, Rollout
from ota.selectors_preview import preview
from ota.services import rollouts as services
from ota.services.facts import plan_of as kept_plan
from protocol.errors import Refused

BENEFITS = ("completion", "complaint")


@page
@needs(Action.START_ROLLOUT)
@require_http_methods(["GET", "POST"])
def rollout_new(request: HttpRequest) -> HttpResponse:
    """A plain form: previewing it changes nothing; a draft or a start leads to the rollout's page."""
    if request.method == "GET":
        return _form(request, Typed.of(request.GET.dict(), defaults=True))
    typed = Typed.of(request.POST.dict(), defaults=False)
    try:
        release, group, plan = _read(typed)
        if "preview" in request.POST:
            found = preview(release, group, plan, base_model=bool(typed["base_model"]))
            return _form(request, typed, shown=previewed(found))
        if sentence := problem_with(typed["reason"], MAX_TEXT):
            raise Problem(sentence, "reason")
        rollout = _make(request, typed, release, group, plan)
    except Problem as problem:
        return _form(request, typed, problem=problem, status=400)
    except NotAllowed as refused:
        return _form(request, typed, problem=Problem(causes.of(refused)), status=409)
    except Refused as refused:
        return _form(request, typed, problem=Problem(refused.detail), status=400)
    messages.success(request, _("Done. The trail below keeps who, when and why."))
    return redirect("rollout", rollout_id=rollout.pk)


def _read(typed: Typed) -> tuple[Release, FrameGroup, Plan]:
    release = Release.objects.filter(pk=typed["release"]).first()
    if release is None:
        raise Problem(_("Choose a release."), "release")
    group = selectors.group_named(typed["group"])
    if group is None:
        raise Problem(_("Choose a FrameGroup."), "group")
    return release, group, plan_of(typed, clock.now())


def _make(request: HttpRequest, typed: Typed, release: Release, group: FrameGroup, plan: Plan) -> Rollout:
    make = services.start if "start" in request.POST else services.draft
    actor = request.user.get_username()
    return make(release, group, plan, actor, typed["reason"], base_model=bool(typed["base_model"]))


@page
def draft_preview(request: HttpRequest, rollout_id: int) -> HttpResponse:
    """What a draft would do if it were started now."""
    drafts = Rollout.objects.select_related("release", "group").filter(state=RolloutState.DRAFT)
    draft = get_object_or_404(drafts, pk=rollout_id)
    problem, shown = "", None
    try:
        found = preview(draft.release, draft.group, kept_plan(draft), base_model=draft.base_model, draft=draft)
        shown = previewed(found)
    except PlanRefused as refused:
        problem = causes.said(refused.cause)
    except Refused as refused:
        problem = refused.detail
    context = {"section": "rollouts", "rollout": draft, "preview": shown, "problem": problem}
    return render(request, "dashboards/draft_preview.html", context)


def _form(
    request: HttpRequest,
    typed: Typed,
    *,
    shown: Previewed | None = None,
    problem: Problem | None = None,
    status: int = 200,
) -> HttpResponse:
    context = {
        "section": "rollouts",
        "typed": typed.values,
        "problem": str(problem) if problem else "",
        "wrong": problem.name if problem else "",
        "preview": shown,
        "releases": Release.objects.all(),
        "groups": FrameGroup.objects.all(),
        "policies": [*POLICY.items(), (PLAIN, _("Plain stages"))],
        "gates": [(gate, GATE_NAME[gate]) for gate in (GateKind.COMMITTED, GateKind.MANUAL)],
        "benefits": [(name, GUARDRAIL[name]) for name in BENEFITS],
        "max_reason": MAX_TEXT,
        **freezes.banner(request),
    }
    return render(request, "dashboards/rollout_new.html", context, status=status)
