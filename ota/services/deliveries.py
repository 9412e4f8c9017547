"""Telling webhooks what happened, apart from the engine: a receiver that is slow or dead costs nobody else anything.

Each delivery is at least once: its number tells the receiver what it has seen already. A failure is tried again after
growing pauses, TRIES times in all. A webhook that fails is asked about one delivery at a time until it answers again.
"""

import datetime as dt
import hashlib
import hmac
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from ota.models import Webhook, WebhookDelivery
from ota.models.webhook import DELIVERED, DROPPED, FAILED, WAITING
from ota.outgoing import Outcome, post
from ota.services.webhook_payload import payload
from ota.services.webhooks import TEST

log = logging.getLogger(__name__)

PAUSES_S = (10, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800)
"""Before the second and each later attempt: about 16 hours in all."""
TRIES = len(PAUSES_S) + 1
ASKED_AGAIN_S = 600
"""The longest that a webhook which fails is left alone."""
LEASE = dt.timedelta(seconds=120)
"""How long whoever has taken a delivery may be busy with it before somebody else tries."""
AT_ONCE = 20
"""Deliveries of one webhook in one round."""
WAITING_AT_MOST = 1_000
"""Undelivered ones of one webhook; the oldest beyond are dropped, and say so."""
KEPT = 1_000
"""Ended ones of one webhook that can be looked at."""
ROUNDS = 50
SENDERS = 4

_busy = threading.Lock()


@dataclass(frozen=True, slots=True)
class Parcel:
    """One delivery, ready to be sent without the database."""

    delivery: int
    webhook: int
    url: str
    secret: str
    kind: str
    body: bytes


def wake() -> bool:
    """Deliver what is due in a thread of its own, unless one is at it in this process. Returns whether it was begun."""
    now = timezone.now()
    ready = Webhook.objects.filter(active=True, next_at__lte=now)
    if not WebhookDelivery.objects.filter(state=WAITING, next_at__lte=now, webhook__in=ready).exists():
        return False
    if not _busy.acquire(blocking=False):
        return False
    threading.Thread(target=_work, name="webhooks", daemon=True).start()
    return True


def _work() -> None:
    try:
        for _ in range(ROUNDS):
            if not deliver_due():
                return
    except Exception:
        log.exception("Webhooks could not be told; the next round tries again")
    finally:
        connection.close()
        _busy.release()


def deliver_due(now: dt.datetime | None = None) -> int:
    """One round: what is due of every webhook, one after the other in each. Returns how many were sent."""
    now = now or timezone.now()
    webhooks = Webhook.objects.filter(active=True, next_at__lte=now, deliveries__state=WAITING).distinct()
    taken = {webhook.pk: _take(webhook, now) for webhook in webhooks}
    with ThreadPoolExecutor(SENDERS) as senders:
        sent = list(senders.map(_send_all, [parcels for parcels in taken.values() if parcels]))
    for results in sent:
        for parcel, outcome in results:
            record(parcel.delivery, outcome)
    return sum(len(results) for results in sent)


def test(webhook: Webhook) -> WebhookDelivery:
    """Send a test now. Returns its delivery."""
    now = timezone.now()
    row = WebhookDelivery.objects.create(webhook=webhook, kind=TEST, next_at=now + LEASE, attempts=TRIES)
    row.body = payload(row)
    row.save(update_fields=["body"])
    record(row.pk, _send(_parcel(row, webhook)))
    row.refresh_from_db()
    return row


def signature(secret: str, at: int, body: bytes) -> str:
    """``t=<seconds since 1970>,v1=<hex of HMAC-SHA256 over "t.body">``: receivers check both, and that t is recent."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


@transaction.atomic
def _take(webhook: Webhook, now: dt.datetime) -> list[Parcel]:
    """What is due of this webhook, out of others' reach for LEASE."""
    _bound(webhook, now)
    due = webhook.deliveries.select_for_update(skip_locked=True, of=("self",)).filter(state=WAITING, next_at__lte=now)
    rows = list(
        due.select_related("event__rollout").order_by("next_at", "id")[: 1 if webhook.failing_since else AT_ONCE]
    )
    for row in rows:
        row.body = row.body or payload(row)
        row.attempts += 1
        row.next_at = now + LEASE
    WebhookDelivery.objects.bulk_update(rows, ["body", "attempts", "next_at"])
    return [_parcel(row, webhook) for row in rows]


def _bound(webhook: Webhook, now: dt.datetime) -> None:
    """Keeps a receiver that is gone for good from filling the disk."""
    newest = webhook.deliveries.filter(state=WAITING).order_by("-id").values_list("id", flat=True)
    if last := list(newest[WAITING_AT_MOST : WAITING_AT_MOST + 1]):
        too_many = webhook.deliveries.filter(state=WAITING, id__lte=last[0])
        too_many.update(state=DROPPED, ended_at=now, last_error="Too many were waiting.")
    ended = webhook.deliveries.exclude(state=WAITING).order_by("-id").values_list("id", flat=True)
    if last := list(ended[KEPT : KEPT + 1]):
        webhook.deliveries.exclude(state=WAITING).filter(id__lte=last[0]).delete()


def _parcel(row: WebhookDelivery, webhook: Webhook) -> Parcel:
    return Parcel(row.pk, webhook.pk, webhook.url, webhook.secret, row.kind, row.body.encode())


def _send_all(parcels: list[Parcel]) -> list[tuple[Parcel, Outcome]]:
    """In order, until one fails: the others are not tried in vain."""
    results: list[tuple[Parcel, Outcome]] = []
    for parcel in parcels:
        outcome = _send(parcel) if all(done.ok for _, done in results) else Outcome(None, NOT_TRIED)
        results.append((parcel, outcome))
    return results


NOT_TRIED = "Not tried: the one before it failed."


def _send(parcel: Parcel) -> Outcome:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "framefleet",
        "Framefleet-Event": parcel.kind,
        "Framefleet-Delivery": str(parcel.delivery),
        "Framefleet-Signature": signature(parcel.secret, int(timezone.now().timestamp()), parcel.body),
    }
    return post(parcel.url, parcel.body, headers, private=settings.FRAMEFLEET_WEBHOOKS_PRIVATE)


@transaction.atomic
def record(delivery: int, outcome: Outcome) -> None:
    """Keep what came of an attempt; a failure waits for the next, or has failed for good after TRIES."""
    now = timezone.now()
    row = WebhookDelivery.objects.select_for_update(of=("self",)).filter(pk=delivery, state=WAITING).first()
    if row is None:  # removed meanwhile, or somebody else has delivered it
        return
    webhooks = Webhook.objects.filter(pk=row.webhook_id)
    if outcome.error == NOT_TRIED:
        row.attempts -= 1
        row.next_at = now
    elif outcome.ok:
        row.state, row.ended_at = DELIVERED, now
        webhooks.update(failing_since=None, failures=0, next_at=now)
    else:
        webhook = webhooks.select_for_update().get()
        pause = PAUSES_S[min(webhook.failures, len(PAUSES_S) - 1)]
        webhooks.update(
            failing_since=webhook.failing_since or now,
            failures=webhook.failures + 1,
            next_at=now + dt.timedelta(seconds=min(pause, ASKED_AGAIN_S)),
        )
        if row.attempts >= TRIES:
            row.state, row.ended_at = FAILED, now
        else:
            row.next_at = now + dt.timedelta(seconds=PAUSES_S[row.attempts - 1])
    if outcome.error != NOT_TRIED:
        row.last_status, row.last_error = outcome.status, outcome.error[:200]
    row.save(update_fields=["attempts", "next_at", "state", "ended_at", "last_status", "last_error"])
