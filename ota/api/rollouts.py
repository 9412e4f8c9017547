"""``rollouts/``: starting, watching and steering rollouts."""

from typing import Any, ClassVar

import msgspec
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest, Conflict
from fleet.api.pages import limit_of
from fleet.api.permissions import require
from fleet.models import FrameGroup
from fleet.permissions import Action
from ota.api.bodies import field, reason
from ota.api.pages import DEFAULT_LIMIT, MAX_LIMIT
from ota.domain.rollout import Command
from ota.models import Release, Rollout
from ota.selectors import rollout_detail, rollouts
from ota.services import rollouts as services


class RolloutList(APIView):
    """``GET rollouts/?limit=&cursor=`` and ``POST rollouts/``"""

    actions: ClassVar = {"POST": Action.START_ROLLOUT}

    def get(self, request: Request) -> Response:
        """A page of rollouts, newest first."""
        limit = limit_of(request, DEFAULT_LIMIT, MAX_LIMIT)
        cursor = request.query_params.get("cursor", "")
        if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise BadRequest("This cursor is not one of ours: take it from the page before.")
        found = rollouts(limit + 1, before=int(cursor) if cursor else None)
        more = len(found) > limit
        results = msgspec.to_builtins(found[:limit])
        return Response({"results": results, "next": str(found[limit - 1].id) if more else None})

    def post(self, request: Request) -> Response:
        """Start a rollout: 201."""
        release = _release(field(request, "release", str))
        name = field(request, "group", str)
        group = FrameGroup.objects.filter(name=name).first()
        if group is None:
            raise BadRequest(f"There is no group {name!r}: see groups/.")
        try:
            rollout = services.start(
                release,
                group,
                _stages(request),
                request.user.get_username(),
                reason(request),
                base_model=field(request, "base_model", bool, False),
            )
        except services.NotAllowed as refused:
            raise BadRequest(str(refused)) from None
        return Response(show(rollout), status=status.HTTP_201_CREATED)


class RolloutView(APIView):
    """``GET rollouts/{id}/``"""

    def get(self, request: Request, rollout_id: int) -> Response:
        """Everything about one rollout (``ota.selectors.RolloutDetail``)."""
        return Response(show(_rollout(rollout_id)))


class RolloutCommand(APIView):
    """``POST rollouts/{id}/{approve,pause,resume,advance,abort,rollback}/``"""

    actions: ClassVar = {"POST": Action.STEER_ROLLOUT}

    def post(self, request: Request, rollout_id: int, kind: str) -> Response:
        """Do it: the rollout afterwards; 409 when it has moved on since ``seen_state`` or does not allow it."""
        if kind not in set(Command):
            raise NotFound(f"A rollout has no command {kind!r}: use {', '.join(Command)}.")
        if kind == Command.APPROVE:
            require(request, Action.APPROVE_ROLLOUT)
        seen_state = field(request, "seen_state", str)
        why = reason(request)
        try:
            services.command(rollout_id, kind, seen_state, request.user.get_username(), why)
        except Rollout.DoesNotExist:
            raise _missing(rollout_id) from None
        except (services.Stale, services.NotAllowed) as refused:
            raise Conflict(str(refused)) from None
        return Response(show(_rollout(rollout_id)))


def show(rollout: Rollout) -> dict[str, Any]:
    """A rollout as the API gives it."""
    shown: dict[str, Any] = msgspec.to_builtins(rollout_detail(rollout))
    return shown


def _rollout(rollout_id: int) -> Rollout:
    rollout = Rollout.objects.select_related("release", "group").filter(pk=rollout_id).first()
    if rollout is None:
        raise _missing(rollout_id)
    return rollout


def _missing(rollout_id: int) -> NotFound:
    return NotFound(f"There is no rollout {rollout_id}: see rollouts/.")


def _release(text: str) -> Release:
    name, _, version = text.strip().rpartition(" ")
    release = Release.objects.filter(name=name, version=version).first()
    if release is None:
        raise BadRequest(f'There is no release {text!r}: write it as "name version", see releases/.')
    return release


def _stages(request: Request) -> list[float]:
    given = field(request, "stages", list)
    if not all(isinstance(share, int | float) and not isinstance(share, bool) for share in given):
        raise BadRequest('"stages" must be a list of shares such as [0.05, 0.25, 1.0].')
    try:
        return [float(share) for share in given]
    except OverflowError:
        raise BadRequest('"stages" holds an endless number: give shares such as [0.05, 0.25, 1.0].') from None
