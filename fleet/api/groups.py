"""``groups/``: FrameGroups."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest, Conflict
from fleet.api.pages import page
from fleet.groups import frames_in
from fleet.models import FrameGroup
from fleet.services.groups import NameTaken, create_group
from protocol.errors import Refused


class GroupList(APIView):
    """``GET groups/`` and ``POST groups/ {"name", "query"}``"""

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


def _show(group: FrameGroup) -> dict[str, Any]:
    try:
        frames = frames_in(group).count()
    except Refused:  # a query that only an older version could read must not hide the other groups
        return {"name": group.name, "query": group.query, "frames": None}
    return {"name": group.name, "query": group.query, "frames": frames}
