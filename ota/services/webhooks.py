"""Webhooks: who is told of what. Telling them is ``ota.services.deliveries``'."""

import secrets
from collections.abc import Sequence

from django.conf import settings
from django.db import transaction

from fleet.services.audit import audit
from ota.models import RolloutEvent, Webhook, WebhookDelivery
from ota.outgoing import Unfit, check_url
from protocol.errors import Reason, Refused

MAX_WEBHOOKS = 20
TEST = "test"
EVENTS = (
    "drafted",
    "changed",
    "proposed",
    "approved",
    "scheduled",
    "started",
    "stage_opened",
    "advanced",
    "stage_completed",
    "paused",
    "resumed",
    "succeeded",
    "aborted",
    "rolling_back",
    "rolled_back",
    "commented",
    "acknowledged",
)
"""Kinds of RolloutEvent that can be asked for."""


@transaction.atomic
def create(url: str, events: Sequence[str], actor: str) -> Webhook:
    """A webhook with a fresh secret; ``events`` empty for all. Raises Refused with one sentence."""
    try:
        check_url(url, private=settings.FRAMEFLEET_WEBHOOKS_PRIVATE)
    except Unfit as unfit:
        raise Refused(Reason.BAD_MESSAGE, str(unfit)) from None
    unknown = [event for event in events if event not in EVENTS]
    if unknown:
        raise Refused(Reason.BAD_MESSAGE, f"There is no event {unknown[0]!r}: use {', '.join(EVENTS)}.")
    if Webhook.objects.count() >= MAX_WEBHOOKS:
        raise Refused(Reason.BAD_MESSAGE, f"There are {MAX_WEBHOOKS} webhooks, as many as can be: remove one first.")
    wanted = sorted(set(events))
    webhook = Webhook.objects.create(url=url, secret=secrets.token_hex(32), events=wanted, created_by=actor)
    audit(actor, "webhook.created", f"webhook {webhook.pk}", {"host": _host(url), "events": wanted})
    return webhook


@transaction.atomic
def remove(webhook: Webhook, actor: str) -> None:
    """Tell it nothing any more, and forget what it was told."""
    audit(actor, "webhook.removed", f"webhook {webhook.pk}", {"host": _host(webhook.url)})
    webhook.delete()


@transaction.atomic
def switch(webhook: Webhook, active: bool, actor: str) -> None:
    """Stop telling it, or go on: what happened in between is not told."""
    webhook.active = active
    webhook.save(update_fields=["active"])
    audit(actor, "webhook.switched", f"webhook {webhook.pk}", {"host": _host(webhook.url), "active": active})


def enqueue(event: RolloutEvent) -> None:
    """Leave the event for everybody who wants it; call it in the event's own transaction."""
    wanting = [
        webhook for webhook in Webhook.objects.filter(active=True) if event.kind in (webhook.events or (event.kind,))
    ]
    if wanting:
        rows = (WebhookDelivery(webhook=webhook, event=event, kind=event.kind) for webhook in wanting)
        WebhookDelivery.objects.bulk_create(rows)


def _host(url: str) -> str:
    """What may be written down of an address: paths hold secrets with some receivers."""
    return check_url(url, private=True).hostname or ""
