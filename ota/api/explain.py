"""``rollouts/{id}/explain/{frame}/``, ``frames/{id}/standing/`` and ``drift/``: why a frame is as it is."""

from typing import Any

import msgspec
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest
from fleet.api.pages import limit_of
from fleet.models import Frame
from ota.api.rollouts import rollout_of
from ota.selectors_frame import drifted_frames, explain, frame_standing
from protocol.topics import is_frame_id

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000


class Explain(APIView):
    """``GET rollouts/{id}/explain/{frame}/``"""

    def get(self, request: Request, rollout_id: int, frame_id: str) -> Response:
        """Why this frame has the rollout's release, or not (``ota.selectors_frame.Explanation``)."""
        rollout = rollout_of(rollout_id)
        try:
            return Response(msgspec.to_builtins(explain(rollout, frame_id)))
        except Frame.DoesNotExist:
            raise no_frame(frame_id) from None


class Standing(APIView):
    """``GET frames/{id}/standing/``"""

    def get(self, request: Request, frame_id: str) -> Response:
        """What it should run and does, its pin and its rollouts (``ota.selectors_frame.FrameStanding``)."""
        try:
            return Response(msgspec.to_builtins(frame_standing(frame_id)))
        except Frame.DoesNotExist:
            raise no_frame(frame_id) from None


class DriftList(APIView):
    """``GET drift/?limit=&cursor=``"""

    def get(self, request: Request) -> Response:
        """Frames, by id, that report something else than they should run; digests."""
        limit, after = limit_of(request, DEFAULT_LIMIT, MAX_LIMIT), request.query_params.get("cursor", "")
        if after and not is_frame_id(after):
            raise BadRequest("This cursor is not one of ours: take it from the page before.")
        found = drifted_frames(limit + 1, after)
        results: list[dict[str, Any]] = msgspec.to_builtins(found[:limit])
        return Response({"results": results, "next": found[limit - 1].frame_id if len(found) > limit else None})


def no_frame(frame_id: str) -> NotFound:
    """There is no such frame."""
    return NotFound(f"There is no frame {frame_id[:50]!r}: see frames/.")
