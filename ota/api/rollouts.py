"""``rollouts/``: drafting, starting, watching and steering rollouts."""

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
from ota.api.plans import plan_of_body, superseded
from ota.domain.rollout import Command
from ota.models import Release, Rollout
from ota.selectors import rollout_detail, rollouts
from ota.services import comments, drafts
from ota.services import rollouts as services

PLANNED = ("policy", "stages", "holdback", "plan")
"""Fields of a body that say something about the plan."""


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
        """Start a rollout, or keep it as a draft where the body says ``"draft": true``: 201."""
        release, group, plan = release_of(request), group_of(request), plan_of_body(request)
        begin = services.draft if field(request, "draft", bool, False) else services.start
        options: dict[str, Any] = {"base_model": field(request, "base_model", bool, False)}
        if replaced := superseded(request):
            options["supersede"] = replaced
        try:
            rollout = begin(release, group, plan, request.user.get_username(), reason(request), **options)
        except services.NotAllowed as refused:
            raise BadRequest(str(refused)) from None
        return Response(show(rollout), status=status.HTTP_201_CREATED)


class RolloutView(APIView):
    """``GET rollouts/{id}/`` and, of a draft, ``PUT rollouts/{id}/``"""

    actions: ClassVar = {"PUT": Action.START_ROLLOUT}

    def get(self, request: Request, rollout_id: int) -> Response:
        """Everything about one rollout (``ota.selectors.RolloutDetail``)."""
        return Response(show(rollout_of(rollout_id)))

    def put(self, request: Request, rollout_id: int) -> Response:
        """Change a draft in what the body gives; 409 when it is none, or has changed since ``seen_state``."""
        body = request.data if isinstance(request.data, dict) else {}
        seen_state, why = field(request, "seen_state", str), reason(request)
        try:
            drafts.change(
                rollout_id,
                seen_state,
                request.user.get_username(),
                why,
                release=release_of(request) if "release" in body else None,
                group=group_of(request) if "group" in body else None,
                plan=plan_of_body(request) if any(name in body for name in PLANNED) else None,
                base_model=field(request, "base_model", bool) if "base_model" in body else None,
            )
        except Rollout.DoesNotExist:
            raise missing(rollout_id) from None
        except services.NotAllowed as refused:
            raise BadRequest(str(refused)) from None
        except services.Stale as refused:
            raise Conflict(str(refused)) from None
        return Response(show(rollout_of(rollout_id)))


class RolloutCommand(APIView):
    """``POST rollouts/{id}/{start,approve,pause,resume,advance,abort,rollback}/``"""

    actions: ClassVar = {"POST": Action.STEER_ROLLOUT}

    def post(self, request: Request, rollout_id: int, kind: str) -> Response:
        """Do it: the rollout afterwards; 409 when it has moved on since ``seen_state`` or does not allow it."""
        if kind not in set(Command):
            raise NotFound(f"A rollout has no command {kind!r}: use {', '.join(Command)}.")
        if kind in NEEDS:
            require(request, NEEDS[kind])
        seen_state = field(request, "seen_state", str)
        why = reason(request)
        try:
            services.command(rollout_id, kind, seen_state, request.user.get_username(), why)
        except Rollout.DoesNotExist:
            raise missing(rollout_id) from None
        except (services.Stale, services.NotAllowed) as refused:
            raise Conflict(str(refused)) from None
        return Response(show(rollout_of(rollout_id)))


class RolloutComment(APIView):
    """``POST rollouts/{id}/comment/ {"text", "acknowledge"?}``"""

    actions: ClassVar = {"POST": Action.STEER_ROLLOUT}

    def post(self, request: Request, rollout_id: int) -> Response:
        """Leave a word in its trail, or say that its newest verdict has been seen: 201 with the event."""
        rollout = rollout_of(rollout_id)
        look = None
        if field(request, "acknowledge", bool, False):
            look = rollout.looks.order_by("-id").values_list("pk", flat=True).first()
            if look is None:
                raise Conflict(f"Rollout {rollout_id} has no verdict yet: there is nothing to acknowledge.")
        text = field(request, "text", str, "")
        try:
            event = comments.comment(rollout_id, text, request.user.get_username(), look)
        except services.NotAllowed as refused:
            raise BadRequest(str(refused)) from None
        shown = {"at": event.at, "actor": event.actor, "kind": event.kind, "reason": event.reason}
        return Response({**shown, "detail": event.detail}, status=status.HTTP_201_CREATED)


NEEDS = {Command.START.value: Action.START_ROLLOUT, Command.APPROVE.value: Action.APPROVE_ROLLOUT}
"""Commands that need more than the role which steers."""


def show(rollout: Rollout) -> dict[str, Any]:
    """A rollout as the API gives it."""
    shown: dict[str, Any] = msgspec.to_builtins(rollout_detail(rollout))
    return shown


def rollout_of(rollout_id: int) -> Rollout:
    """The rollout with release and group. Raises NotFound."""
    rollout = Rollout.objects.select_related("release", "group").filter(pk=rollout_id).first()
    if rollout is None:
        raise missing(rollout_id)
    return rollout


def missing(rollout_id: int) -> NotFound:
    """There is no such rollout."""
    return NotFound(f"There is no rollout {rollout_id}: see rollouts/.")


def release_of(request: Request) -> Release:
    """The release that the body names. Raises BadRequest."""
    text = field(request, "release", str)
    name, _, version = text.strip().rpartition(" ")
    release = Release.objects.filter(name=name, version=version).first()
    if release is None:
        raise BadRequest(f'There is no release {text!r}: write it as "name version", see releases/.')
    return release


def group_of(request: Request) -> FrameGroup:
    """The FrameGroup that the body names. Raises BadRequest."""
    name = field(request, "group", str)
    group = FrameGroup.objects.filter(name=name).first()
    if group is None:
        raise BadRequest(f"There is no group {name!r}: see groups/.")
    return group
