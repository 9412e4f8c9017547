"""Why one frame has a rollout's release, or not."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _

from dashboards import causes
from dashboards.views.pages import page
from fleet.models import Frame
from ota.models import Rollout
from ota.selectors_frame import Explanation, explain


@page
def explanation(request: HttpRequest, rollout_id: int) -> HttpResponse:
    """``?frame=ID``; without one, the question alone."""
    rollout = get_object_or_404(Rollout.objects.select_related("release", "group"), pk=rollout_id)
    frame_id = request.GET.get("frame", "").strip().replace("\0", "")
    found: Explanation | None = None
    problem = ""
    if frame_id:
        try:
            found = explain(rollout, frame_id)
        except Frame.DoesNotExist:
            problem = _("There is no frame {frame}: look its id up in the list of frames.").format(frame=frame_id[:64])
    context = {
        "section": "rollouts",
        "rollout": rollout,
        "frame_id": frame_id,
        "found": found,
        "sentence": causes.explained(found.code, found.parameters, found.sentence) if found else "",
        "problem": problem,
    }
    return render(request, "dashboards/explanation.html", context, status=404 if problem else 200)
