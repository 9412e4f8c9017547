"""Which households need a fix: segments by how much more they complain than the rest of the fleet."""

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import pgettext, pgettext_lazy

from dashboards import selectors, words
from dashboards.effects import effect
from dashboards.formats import decimal
from dashboards.views.pages import page, why_not
from dashboards.words_segments import key_words, value_words
from fleet import clock
from fleet.models import FrameGroup
from fleet.permissions import Action
from ota.domain.analysis.policy import COMPLAINT
from ota.selectors_segments import MAX_DAYS, SegmentRow, segments
from protocol.errors import Refused

DAYS = 14
CHOICES = (7, 14, 28, MAX_DAYS)
SHOWN = 100


@dataclass(frozen=True)
class Line:
    """One segment as the page shows it; ``aim`` is where a rollout for it is planned, "" where no query means it."""

    row: SegmentRow
    name: str
    excess: str
    interval: str
    per_thousand: str
    rest: str
    aim: str
    status: words.Status


@page
def segment_list(request: HttpRequest) -> HttpResponse:
    """``?days=14&group=``"""
    given, name = request.GET.get("days", ""), request.GET.get("group", "").strip().replace("\0", "")
    days = int(given) if given.isdecimal() and len(given) < 4 else DAYS
    group = selectors.group_named(name) if name else None
    found: list[SegmentRow] = []
    problem = ""
    if name and group is None:
        problem = _("There is no FrameGroup of this name.")
    else:
        try:
            found = segments(days, clock.now(), group)
        except Refused as refused:
            problem = refused.detail
    context = {
        "section": "segments",
        "lines": [_line(row, group) for row in found[:SHOWN]],
        "days": days,
        "choices": CHOICES,
        "groups": FrameGroup.objects.all(),
        "group": name,
        "problem": problem,
        "why_not": why_not(request, Action.START_ROLLOUT),
    }
    return render(request, "dashboards/segments.html", context)


def _line(row: SegmentRow, group: FrameGroup | None) -> Line:
    high = effect(COMPLAINT, row.high) if row.high is not None else pgettext("interval", "no upper end")
    given = {"target": row.query or ""} | ({"group": group.name} if group is not None else {})
    return Line(
        row=row,
        name=_("{key}: {value}").format(key=key_words(row.key), value=value_words(row.key, row.value)),
        excess=effect(COMPLAINT, row.ratio),
        interval=_("{low} to {high}").format(low=effect(COMPLAINT, row.low), high=high),
        per_thousand=decimal(row.rate * 1000, 1),
        rest=decimal(row.rest_rate * 1000, 1),
        aim=f"{reverse('rollout_new')}?{urlencode(given)}" if row.query else "",
        status=words.status(NOTABLE, "yes" if row.notable else "no"),
    )


NOTABLE = {
    "yes": words.Status(pgettext_lazy("segment", "Complains more"), "alert", "bad"),
    "no": words.Status(pgettext_lazy("segment", "Not enough evidence"), "dot", "quiet"),
}
