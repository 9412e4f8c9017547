"""Who is told of a rollout's events, and what was said to them."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from ota.models.rollout import RolloutEvent

WAITING, DELIVERED, FAILED, DROPPED = "waiting", "delivered", "failed", "dropped"
STATES = [(state, state) for state in (WAITING, DELIVERED, FAILED, DROPPED)]


class Webhook(models.Model):
    """An address that gets a signed POST for each event. ``secret`` is what signatures are made with; the receiver
    knows it too."""

    url = models.CharField(max_length=500)
    secret = models.CharField(max_length=64)
    events = models.JSONField(default=list)
    """Kinds of RolloutEvent; empty: all."""
    active = models.BooleanField(default=True)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)
    failing_since = models.DateTimeField(null=True, blank=True)
    """Since when no delivery has succeeded; while it is set only one at a time is tried."""
    failures = models.IntegerField(default=0)
    """Attempts since then."""
    next_at = models.DateTimeField(default=timezone.now)
    """Nothing is tried before."""

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One event for one webhook: written in the event's own transaction, so that none is lost; sent later."""

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(RolloutEvent, null=True, on_delete=models.CASCADE, related_name="+")
    """None: a test."""
    kind = models.CharField(max_length=32)
    state = models.CharField(max_length=9, choices=STATES, default=WAITING)
    body = models.TextField(blank=True)
    """What is sent, kept from the first attempt on: every later one says the same."""
    created_at = models.DateTimeField(default=timezone.now)
    attempts = models.SmallIntegerField(default=0)
    next_at = models.DateTimeField(default=timezone.now)
    """Not before; all times here are real ones."""
    last_status = models.SmallIntegerField(null=True)
    """HTTP status of the newest answer; None when there was none."""
    last_error = models.CharField(max_length=200, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("id",)
        indexes = (
            models.Index(fields=["next_at"], name="delivery_due", condition=Q(state=WAITING)),
            models.Index(fields=["webhook", "-id"], name="delivery_of_webhook"),
        )

    def __str__(self) -> str:
        return f"{self.kind}: {self.state}"
