"""``frames/`` and ``frames/{id}/``: what each frame is and says. Releases are digests here."""

from datetime import datetime
from typing import Any, ClassVar

from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest
from fleet.api.pages import page
from fleet.models import Frame, FrameGroup, HealthEvent, ReportedState
from fleet.permissions import Action
from fleet.selectors import Identity, frame_detail, identity, list_frames
from fleet.services.places import set_place


class FrameList(APIView):
    """``GET frames/?group=&q=&release=&locale=&state=&lifecycle=&limit=&cursor=``"""

    def get(self, request: Request) -> Response:
        """A page of frames by id."""
        params = request.query_params
        if any("\0" in value for value in params.values()):
            raise BadRequest("A query must not hold a NUL character.")
        group = None
        if name := params.get("group", ""):
            group = FrameGroup.objects.filter(name=name).first()
            if group is None:
                raise NotFound(f"There is no group {name!r}: see groups/.")
        frames = list_frames(
            group=group,
            q=params.get("q", ""),
            release=params.get("release"),
            locale=params.get("locale", ""),
            state=params.get("state", ""),
            lifecycle=params.get("lifecycle", ""),
        )
        return page(request, frames, show_frame)


class FrameDetail(APIView):
    """``GET frames/{id}/``"""

    def get(self, request: Request, frame_id: str) -> Response:
        """One frame with its newest HealthEvents, its certificates and its claim."""
        found = frame_detail(frame_id)
        if found is None:
            raise NotFound(f"There is no frame {frame_id!r}: see frames/.")
        frame, events = found
        return Response(
            {
                **show_frame(frame),
                "health_events": [_show_event(event) for event in events],
                "identity": _show_identity(identity(frame)),
            }
        )


class FramePlaces(APIView):
    """``PUT places/ {"frames": [id, ...], "timezone"?, "site"?}``: where frames hang, all of them or none."""

    actions: ClassVar = {"PUT": Action.ENROL_FRAMES}

    def put(self, request: Request) -> Response:
        """What is left out stays; answers with how many frames there are."""
        body = request.data if isinstance(request.data, dict) else {}
        ids = body.get("frames")
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise BadRequest('Send an object, such as {"frames": ["wall-1"], "timezone": "Asia/Shanghai", "site": ""}.')
        timezone, site = body.get("timezone"), body.get("site")
        if not isinstance(timezone, str | None) or not isinstance(site, str | None):
            raise BadRequest("Send timezone and site as text, or leave them out.")
        placed = set_place(ids, request.user.get_username(), timezone=timezone, site=site)
        return Response({"frames": placed})


def show_frame(frame: Frame) -> dict[str, Any]:
    """A frame as the API gives it; ``reported`` is null before its first report."""
    reported: ReportedState | None = getattr(frame, "reported", None)
    return {
        "id": frame.id,
        "household": frame.household_id,
        "hardware": frame.hardware,
        "locale": frame.locale,
        "timezone": frame.timezone,
        "site": frame.site,
        "simulated": frame.simulated,
        "lifecycle": frame.lifecycle,
        "enrolled_at": _time(frame.enrolled_at),
        "last_seen": _time(frame.last_seen),
        "agent_version": frame.agent_version,
        "desired_version": frame.desired_version,
        "release": reported.release or None if reported else None,
        "state": reported.state if reported else None,
        "failure": _failure(reported),
        "lip_errors": reported.lip_errors if reported else [],
        "figures": reported.figures if reported else {},
        "reported": _reported(reported),
    }


def _reported(reported: ReportedState | None) -> dict[str, Any] | None:
    if reported is None:
        return None
    return {
        "state": reported.state,
        "release": reported.release or None,
        "slot": reported.slot or None,
        "target": reported.target or None,
        "desired_version": reported.desired_version,
        "sequence": reported.sequence,
        "at": _time(reported.at),
        "received_at": _time(reported.received_at),
        "failure": _failure(reported),
        "lip_errors": reported.lip_errors,
        "figures": reported.figures,
    }


def _failure(reported: ReportedState | None) -> dict[str, str] | None:
    if reported is None or not reported.failure_reason:
        return None
    return {"reason": reported.failure_reason, "detail": reported.failure_detail}


def _show_event(event: HealthEvent) -> dict[str, Any]:
    return {
        "at": _time(event.at),
        "received_at": _time(event.received_at),
        "kind": event.kind,
        "detail": event.detail,
        "figures": event.figures,
        "release": event.release or None,
    }


def _show_identity(found: Identity) -> dict[str, Any]:
    claim = found.claim
    return {
        "certificates": [
            {
                "serial": held.row.serial_hex,
                "state": held.state,
                "authority": held.row.authority,
                "issued_at": _time(held.row.issued_at),
                "not_after": _time(held.row.not_after),
                "good_until": _time(held.row.good_until),
                "revoked_at": _time(held.row.revoked_at),
                "revoked_reason": held.row.revoked_reason or None,
            }
            for held in found.certificates
        ],
        "claim": None
        if claim is None
        else {
            "made_by": claim.made_by,
            "made_at": _time(claim.made_at),
            "expires_at": _time(claim.expires_at),
            "used_at": _time(claim.used_at),
        },
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
