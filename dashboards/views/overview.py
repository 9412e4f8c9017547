"""The first page: how the fleet is, what is rolling out, what went wrong."""

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from dashboards import figures, selectors
from dashboards.rollout_page import verdict
from dashboards.stage_strip import strip
from dashboards.views.pages import page, render_live
from fleet import clock
from fleet.selectors import frame_counts
from ota.selectors import rollouts

NEWEST_ROLLOUTS = 5


@page
def overview(request: HttpRequest) -> HttpResponse:
    now = clock.now()
    counts, days = frame_counts(now), selectors.fleet_days()
    context = {
        "section": "overview",
        "frames": counts,
        "releases": selectors.running_releases(),
        "rollouts": [(rollout, verdict(rollout), strip(rollout, now)) for rollout in rollouts(NEWEST_ROLLOUTS)],
        "troubles": selectors.newest_troubles(),
        "charts": figures.charts("fleet", [(0, _("All frames"), days)], (), simulated=counts.simulated > 0),
        "days": days,
    }
    return render_live(request, "dashboards/overview.html", "dashboards/overview_live.html", context)
