"""``rollouts/preview/`` and ``rollouts/{id}/preview/``: what would become of a plan."""

from typing import ClassVar

import msgspec
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest, Conflict
from fleet.permissions import Action
from ota.api.bodies import field
from ota.api.plans import plan_of_body, superseded
from ota.api.rollouts import group_of, release_of, rollout_of
from ota.domain.plan import PlanRefused
from ota.domain.rollout import RolloutState
from ota.selectors_preview import preview
from ota.services.facts import plan_of


class PreviewPlan(APIView):
    """``POST rollouts/preview/``, with the body of ``POST rollouts/``"""

    actions: ClassVar = {"POST": Action.READ}  # it keeps nothing

    def post(self, request: Request) -> Response:
        """Nothing is kept: ``ota.selectors_preview.Preview``."""
        release, group = release_of(request), group_of(request)
        plan = plan_of_body(request)
        plan = msgspec.structs.replace(plan, supersedes=[*plan.supersedes, *superseded(request)])
        try:
            found = preview(release, group, plan, base_model=field(request, "base_model", bool, False))
        except PlanRefused as refused:
            raise BadRequest(str(refused)) from None
        return Response(msgspec.to_builtins(found))


class PreviewDraft(APIView):
    """``GET rollouts/{id}/preview/``"""

    def get(self, request: Request, rollout_id: int) -> Response:
        """As above, of a draft; 409 when it is none any more."""
        rollout = rollout_of(rollout_id)
        if rollout.state != RolloutState.DRAFT:
            raise Conflict(f"Rollout {rollout_id} is {rollout.state}: only a draft can be previewed.")
        try:
            found = preview(
                rollout.release, rollout.group, plan_of(rollout), base_model=rollout.base_model, draft=rollout
            )
        except PlanRefused as refused:
            raise BadRequest(str(refused)) from None
        return Response(msgspec.to_builtins(found))
