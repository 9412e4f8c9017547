"""``webhooks/``: who is told of rollouts' events, and what came of telling them. For admins: data leaves the house."""

from typing import Any, ClassVar

from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest
from fleet.permissions import Action
from ota.api.bodies import field
from ota.api.pages import newest_first
from ota.models import Webhook, WebhookDelivery
from ota.services import deliveries
from ota.services import webhooks as services

MAX_EVENTS = 50


class WebhookList(APIView):
    """``GET webhooks/`` and ``POST webhooks/ {"url", "events"?}``"""

    actions: ClassVar = {"GET": Action.SET_POLICY, "POST": Action.SET_POLICY}

    def get(self, request: Request) -> Response:
        """All of them; there are few."""
        return Response({"results": [show(webhook) for webhook in Webhook.objects.all()], "next": None})

    def post(self, request: Request) -> Response:
        """Make one: 201 with the secret that its signatures are made with, which is never shown again."""
        events = field(request, "events", list, [])
        if len(events) > MAX_EVENTS or not all(isinstance(event, str) for event in events):
            raise BadRequest(f'"events" must be a list of kinds such as ["paused"]: {", ".join(services.EVENTS)}.')
        made = services.create(field(request, "url", str).strip(), events, request.user.get_username())
        return Response({**show(made), "secret": made.secret}, status=status.HTTP_201_CREATED)


class WebhookDetail(APIView):
    """``GET``, ``PUT`` and ``DELETE webhooks/{id}/``"""

    actions: ClassVar = dict.fromkeys(("GET", "PUT", "DELETE"), Action.SET_POLICY)

    def get(self, request: Request, webhook_id: int) -> Response:
        """One of them."""
        return Response(show(_webhook(webhook_id)))

    def put(self, request: Request, webhook_id: int) -> Response:
        """``{"active": false}`` stops it, true lets it go on."""
        webhook = _webhook(webhook_id)
        services.switch(webhook, field(request, "active", bool), request.user.get_username())
        return Response(show(webhook))

    def delete(self, request: Request, webhook_id: int) -> Response:
        """Remove it: 204."""
        services.remove(_webhook(webhook_id), request.user.get_username())
        return Response(status=status.HTTP_204_NO_CONTENT)


class WebhookTest(APIView):
    """``POST webhooks/{id}/test/``"""

    actions: ClassVar = {"POST": Action.SET_POLICY}

    def post(self, request: Request, webhook_id: int) -> Response:
        """Send a test now: the delivery, whatever came of it."""
        return Response(show_delivery(deliveries.test(_webhook(webhook_id))))


class WebhookDeliveries(APIView):
    """``GET webhooks/{id}/deliveries/?limit=&cursor=``"""

    actions: ClassVar = {"GET": Action.SET_POLICY}

    def get(self, request: Request, webhook_id: int) -> Response:
        """A page of its deliveries, newest first."""
        rows = _webhook(webhook_id).deliveries.select_related("event")
        return newest_first(request, rows, lambda found: [show_delivery(row) for row in found], "id")


def show(webhook: Webhook) -> dict[str, Any]:
    """A webhook as the API gives it; never its secret."""
    return {
        "id": webhook.pk,
        "url": webhook.url,
        "events": webhook.events,
        "active": webhook.active,
        "created_by": webhook.created_by,
        "created_at": webhook.created_at,
        "failing_since": webhook.failing_since,
    }


def show_delivery(delivery: WebhookDelivery) -> dict[str, Any]:
    """A delivery as the API gives it; ``next_at`` is null when nothing more is tried."""
    waits = delivery.state == "waiting"
    return {
        "id": delivery.pk,
        "event": delivery.event_id,
        "rollout": delivery.event.rollout_id if delivery.event is not None else None,
        "kind": delivery.kind,
        "state": delivery.state,
        "created_at": delivery.created_at,
        "attempts": delivery.attempts if delivery.event is not None else 1,
        "next_at": delivery.next_at if waits else None,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
        "ended_at": delivery.ended_at,
    }


def _webhook(webhook_id: int) -> Webhook:
    found = Webhook.objects.filter(pk=webhook_id).first()
    if found is None:
        raise NotFound(f"There is no webhook {webhook_id}: see webhooks/.")
    return found
