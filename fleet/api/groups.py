"""``groups/``: FrameGroups."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest, Conflict
from fleet.api.pages import page
from fleet.groups import frames_in
from fleet.models import FrameGroup
from fleet.permissions import Action
from fleet.services.groups import NameTaken, create_group, parse_hours, quiet_hours, set_transfer
from protocol.errors import Refused


class GroupList(APIView):
    """``GET groups/`` and ``POST groups/ {"name", "query"}``"""

    actions: ClassVar = {"POST": Action.EDIT_GROUPS}

    def get(self, request: Request) -> Response:
        """Groups by name, each with how many frames it means now (null: its query cannot be read)."""
        groups: QuerySet[FrameGroup] = FrameGroup.objects.order_by("name")
        if name := request.query_params.get("name", ""):
            groups = groups.filter(name=name.replace("\0", ""))
        return page(request, groups, _show, key="name")

    def post(self, request: Request) -> Response:
        """Make one."""
        data = request.data
        if not isinstance(data, dict):
            raise BadRequest('Send an object, such as {"name": "mandarin", "query": "locale=zh"}.')
        name, query = data.get("name"), data.get("query", "")
        if not isinstance(name, str) or not isinstance(query, str):
            raise BadRequest('Send name and query as text, such as {"name": "mandarin", "query": "locale=zh"}.')
        try:
            group = create_group(name, query, request.user.get_username())
        except NameTaken as taken:
            raise Conflict(str(taken)) from None
        return Response(_show(group), status=status.HTTP_201_CREATED)


class GroupTransfer(APIView):
    """``PUT groups/transfer/ {"name", "quiet_hours": "08:00-22:00", "daily_mb": 200}``"""

    actions: ClassVar = {"PUT": Action.SET_POLICY}

    def put(self, request: Request) -> Response:
        """When and how much the group's frames may download; "" and null lift a bound."""
        data = request.data
        if not isinstance(data, dict) or not isinstance(data.get("name"), str):
            raise BadRequest('Send an object, such as {"name": "mandarin", "quiet_hours": "08:00-22:00"}.')
        hours, daily_mb = data.get("quiet_hours", ""), data.get("daily_mb")
        if not isinstance(hours, str) or isinstance(daily_mb, bool) or not isinstance(daily_mb, int | None):
            raise BadRequest('Send quiet_hours as text such as "08:00-22:00" and daily_mb as a whole number or null.')
        group = FrameGroup.objects.filter(name=data["name"].replace("\0", "")).first()
        if group is None:
            raise NotFound(f"There is no group {data['name']!r}: see groups/.")
        return Response(_show(set_transfer(group, parse_hours(hours), daily_mb, request.user.get_username())))


def _show(group: FrameGroup) -> dict[str, Any]:
    shown = {
        "name": group.name,
        "query": group.query,
        "quiet_hours": str(quiet_hours(group) or ""),
        "daily_mb": group.daily_mb,
    }
    try:
        frames = frames_in(group).count()
    except Refused:  # a query that only an older version could read must not hide the other groups
        return {**shown, "frames": None}
    return {**shown, "frames": frames}
