"""``segments/``: which households complain more than the rest."""

from dataclasses import asdict

from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet import clock
from fleet.api.errors import BadRequest
from fleet.models import FrameGroup
from ota.selectors_segments import MAX_DAYS, segments

DEFAULT_DAYS = 14


class SegmentList(APIView):
    """``GET segments/?days=14&group=``"""

    def get(self, request: Request) -> Response:
        """Every segment that is large enough to be compared, those that surely complain most first."""
        days = request.query_params.get("days", str(DEFAULT_DAYS))
        if not (days.isascii() and days.isdigit() and len(days) <= 3 and 1 <= int(days) <= MAX_DAYS):
            raise BadRequest(f"days is a whole number from 1 to {MAX_DAYS}, not {days[:20]!r}.")
        group = None
        if name := request.query_params.get("group", "").replace("\0", ""):
            group = FrameGroup.objects.filter(name=name).first()
            if group is None:
                raise NotFound(f"There is no group {name!r}: see groups/.")
        found = segments(int(days), clock.now(), group)
        return Response({"days": int(days), "results": [asdict(row) for row in found], "next": None})
