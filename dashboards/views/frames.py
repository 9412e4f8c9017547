"""The frames list and the page of one frame."""

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse

from dashboards import selectors, trial, words
from dashboards.frame_commands import choices
from dashboards.views import pins
from dashboards.views.pages import page, render_live, why_not
from dashboards.words_segments import key_words, value_words
from fleet.models import Frame, FrameGroup
from fleet.permissions import Action
from fleet.selectors import identity, list_frames
from fleet.services.sessions import cloned
from ota.models import Release
from ota.selectors import release_names, rollouts_of_frame
from ota.selectors_frame import frame_standing
from protocol.errors import Refused

PER_PAGE = 50
DAYS = 14
INSTALL_STATES = ("idle", "downloading", "verifying", "staged", "trial", "committed", "reverted", "failed")
FILTERS = ("q", "group", "locale", "release", "state", "lifecycle")
NO_RELEASE = "none"


@page
def frame_list(request: HttpRequest) -> HttpResponse:
    # PostgreSQL's text holds no NUL: nothing it is in can be found.
    wanted = {name: request.GET.get(name, "").strip().replace("\0", "") for name in FILTERS}
    refusal = ""
    try:
        frames = _frames(wanted)
    except Refused as refused:
        frames, refusal = Frame.objects.none(), refused.detail
    shown = Paginator(frames, PER_PAGE).get_page(request.GET.get("page"))
    rows = [(frame, getattr(frame, "reported", None)) for frame in shown]
    names = release_names(report.release for _frame, report in rows if report is not None)
    query = request.GET.copy()
    query.pop("page", None)
    context = {
        "section": "frames",
        "page": shown,
        "cloned": cloned(frame.pk for frame in shown),
        "rows": [(frame, report, names.get(report.release, "") if report else "") for frame, report in rows],
        "wanted": wanted,
        "refusal": refusal,
        "query": query.urlencode(),
        "groups": FrameGroup.objects.all(),
        "locales": selectors.locales(),
        "releases": Release.objects.all(),
        "states": [(state, words.INSTALL[state].word) for state in INSTALL_STATES],
        "lifecycles": [(state, known.word) for state, known in words.LIFECYCLE.items()],
    }
    return render(request, "dashboards/frame_list.html", context)


def _frames(wanted: dict[str, str]) -> QuerySet[Frame]:
    group = selectors.group_named(wanted["group"]) if wanted["group"] else None
    if wanted["group"] and group is None:
        return Frame.objects.none()
    release = None if not wanted["release"] else "" if wanted["release"] == NO_RELEASE else wanted["release"]
    plain = {name: wanted[name] for name in ("q", "locale", "state", "lifecycle")}
    return list_frames(group=group, release=release, **plain)


@page
def frame_detail(request: HttpRequest, frame_id: str) -> HttpResponse:
    frame = get_object_or_404(Frame.objects.select_related("reported", "desired__release", "pin"), pk=frame_id)
    report, desired = getattr(frame, "reported", None), getattr(frame, "desired", None)
    days = list(frame.days.order_by("-day", "release")[:DAYS])
    held = identity(frame)
    digests = [day.release for day in days] + ([report.release, report.target] if report else [])
    context = {
        "section": "frames",
        "frame": frame,
        "report": report,
        "cloned": cloned([frame.pk]).get(frame.pk),
        "figures": trial.figures(report.figures) if report else [],
        "probation": trial.progress(report.state, report.figures) if report else "",
        "desired": desired,
        "identity": held,
        "standing": frame_standing(frame.pk),
        "pin_choices": [
            (act, reverse(f"frame_{act.kind}", args=[frame.pk]), why_not(request, pins.ACTION))
            for act in pins.acts(frame, pinned=getattr(frame, "pin", None) is not None)
        ],
        "contexts": [(key_words(key), value_words(key, value)) for key, value in selectors.usual_contexts(frame)],
        "choices": [
            (one, reverse("frame_command", args=[frame.pk, one.kind]), why_not(request, Action.ENROL_FRAMES))
            for one in choices(frame, held)
        ],
        "names": release_names(digests),
        "troubles": selectors.newest_troubles(frame),
        "days": days,
        "deployments": rollouts_of_frame(frame.pk),
    }
    return render_live(request, "dashboards/frame.html", "dashboards/frame_live.html", context)
