"""``frames/{id}/{claim,replace,retire,revoke}/``: what a person does to one frame's identity."""

from typing import Any, ClassVar

from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.claims import life_of, show_claim
from fleet.api.errors import BadRequest, Conflict
from fleet.models import Frame
from fleet.permissions import Action
from fleet.services import claims
from fleet.services import lifecycle as fleet_lifecycle
from ota.services import lifecycle
from protocol.errors import Reason, Refused


class FrameCommand(APIView):
    """``POST frames/{id}/{command}/ {"reason", "days"?, "serial"?}``; claim and replace answer with a claim."""

    actions: ClassVar = {"POST": Action.ENROL_FRAMES}

    def post(self, request: Request, frame_id: str, command: str) -> Response:
        """Do it; 409 when the frame's state does not allow it."""
        body = request.data
        if not isinstance(body, dict):
            raise BadRequest('Send an object, such as {"reason": "sent back by the household"}.')
        reason, serial = body.get("reason", ""), body.get("serial")
        if not isinstance(reason, str) or not isinstance(serial, str | None):
            raise BadRequest("Send reason and serial as text.")
        try:
            return Response(_do(command, frame_id, request.user.get_username(), reason, serial, body.get("days")))
        except Frame.DoesNotExist:
            raise NotFound(f"There is no frame {frame_id[:50]!r}: see frames/.") from None
        except Refused as refused:
            if refused.reason is Reason.INCOMPATIBLE:
                raise Conflict(refused.detail) from None
            raise


def _do(command: str, frame_id: str, actor: str, reason: str, serial: str | None, days: object) -> dict[str, Any]:
    match command:
        case "claim":
            return show_claim(claims.claim_again(frame_id, actor, life=life_of(days)))
        case "replace":
            return show_claim(lifecycle.replace(frame_id, actor, reason, life=life_of(days)))
        case "retire":
            lifecycle.retire(frame_id, actor, reason)
            return {"frame_id": frame_id, "lifecycle": Frame.Lifecycle.RETIRED.value}
        case _:
            return {
                "frame_id": frame_id,
                "revoked": fleet_lifecycle.revoke(frame_id, actor, reason, serial_hex=serial),
            }
