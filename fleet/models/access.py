"""Who may ask, and who did what."""

from django.conf import settings
from django.db import models
from django.utils import timezone

from fleet.permissions import SCOPES


class ApiToken(models.Model):
    """A token for the REST API. Only its SHA-256 is kept: 256 random bits need no slow hash."""

    digest = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=64)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    scope = models.CharField(max_length=8, choices=[(name, name) for name in SCOPES], default="admin")
    """At most this much (``fleet.permissions.SCOPES``), and never more than the user."""

    class Meta:
        constraints = (models.UniqueConstraint(fields=["user", "name"], name="apitoken_name_once"),)

    def __str__(self) -> str:
        return f"{self.user}: {self.name}"


class RecoveryCode(models.Model):
    """Lets its user log in once without the app that shows codes. Only its SHA-256 is kept: it has 80 random bits."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="recovery_codes")
    digest = models.CharField(max_length=64, unique=True)

    def __str__(self) -> str:
        return f"{self.user}"


class AuditEntry(models.Model):
    """One thing somebody did, people and engine alike. Rows are only ever added.

    The database gives each its place in the chain (``protocol.audit``) at commit and refuses every change afterwards.
    """

    at = models.DateTimeField(default=timezone.now, db_index=True)
    actor = models.CharField(max_length=150)
    action = models.CharField(max_length=64)
    subject = models.CharField(max_length=200)
    detail = models.JSONField(default=dict, blank=True)
    number = models.BigIntegerField(null=True, blank=True, unique=True, editable=False)
    """Its place in the chain, from 1; None until the commit."""
    previous = models.CharField(max_length=64, blank=True, editable=False)
    digest = models.CharField(max_length=64, blank=True, editable=False)

    class Meta:
        ordering = ("-at", "-id")
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.subject}"
