"""The freeze of all rollouts: its banner."""

from typing import Any

from django.http import HttpRequest

from dashboards.views.pages import why_not
from fleet.permissions import Action
from ota.models import Freeze


def banner(request: HttpRequest) -> dict[str, Any]:
    """What ``freeze.html`` shows: the freeze that holds now, and why the person may not lift it."""
    freeze = Freeze.objects.filter(lifted_at=None).order_by("-id").first()
    return {"freeze": freeze, "freeze_why_not": why_not(request, Action.START_ROLLOUT)}
