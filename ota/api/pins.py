"""``frames/{id}/pin/``, ``rollouts/freeze/`` and ``rollouts/lift/``: keeping the engine's hands off."""

from typing import Any, ClassVar

import msgspec
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest, Conflict
from fleet.models import Frame
from fleet.permissions import Action
from ota.api.bodies import reason
from ota.api.explain import no_frame
from ota.api.rollouts import release_of
from ota.domain.rollout import NotAllowed
from ota.models import Freeze
from ota.selectors_frame import pin_detail
from ota.services import freezes, pins


class FramePin(APIView):
    """``POST frames/{id}/pin/ {"reason", "release"?}`` and ``DELETE frames/{id}/pin/``"""

    actions: ClassVar = {"POST": Action.STEER_ROLLOUT, "DELETE": Action.STEER_ROLLOUT}

    def post(self, request: Request, frame_id: str) -> Response:
        """No rollout touches the frame from now on; with a release, it is told to run that one. 201 with the pin."""
        _exists(frame_id)
        body = request.data if isinstance(request.data, dict) else {}
        release = release_of(request) if body.get("release") is not None else None
        try:
            made = pins.pin(frame_id, release, reason(request), request.user.get_username())
        except NotAllowed as refused:
            raise BadRequest(str(refused)) from None
        return Response(msgspec.to_builtins(pin_detail(made)), status=status.HTTP_201_CREATED)

    def delete(self, request: Request, frame_id: str) -> Response:
        """Rollouts may have it again: 204; 409 when it is not pinned."""
        _exists(frame_id)
        try:
            pins.unpin(frame_id, reason(request), request.user.get_username())
        except NotAllowed as refused:
            raise Conflict(str(refused)) from None
        return Response(status=status.HTTP_204_NO_CONTENT)


class RolloutFreeze(APIView):
    """``GET rollouts/freeze/`` and ``POST rollouts/freeze/ {"reason"}``"""

    actions: ClassVar = {"POST": Action.STEER_ROLLOUT}

    def get(self, request: Request) -> Response:
        """The freeze that stands: ``{"freeze": {"reason", "by", "at"}}``, or null."""
        standing = freezes.current()
        return Response({"freeze": None if standing is None else _show(standing)})

    def post(self, request: Request) -> Response:
        """Nothing is offered from now on, but in an emergency: 201; 409 while another freeze stands."""
        why = reason(request)
        if not why:
            raise BadRequest('Say why in "reason": everybody who waits will read it.')
        try:
            made = freezes.freeze(why, request.user.get_username())
        except NotAllowed as refused:
            raise Conflict(str(refused)) from None
        return Response({"freeze": _show(made)}, status=status.HTTP_201_CREATED)


class RolloutLift(APIView):
    """``POST rollouts/lift/ {"reason"?}``"""

    actions: ClassVar = {"POST": Action.START_ROLLOUT}

    def post(self, request: Request) -> Response:
        """Rollouts go on; 409 when nothing is frozen."""
        try:
            freezes.lift(request.user.get_username(), reason(request))
        except NotAllowed as refused:
            raise Conflict(str(refused)) from None
        return Response({"freeze": None})


def _exists(frame_id: str) -> None:
    if not Frame.objects.filter(pk=frame_id).exists():
        raise no_frame(frame_id)


def _show(freeze: Freeze) -> dict[str, Any]:
    return {"reason": freeze.reason, "by": freeze.by, "at": freeze.at}
