"""Frames, the homes they hang in, and saved queries over them."""

from django.db import models
from django.db.models import Q
from django.utils.timezone import now


class Household(models.Model):
    """The frames of one home: the unit of randomisation."""

    id = models.SlugField(primary_key=True, max_length=64)

    def __str__(self) -> str:
        return self.id


class Frame(models.Model):
    """One device. ``id`` is also the name in its certificate and in its topics."""

    class Lifecycle(models.TextChoices):
        """Groups and rollouts mean active frames only."""

        AWAITED = "awaited"
        """Known, and not born yet: its hardware has no certificate."""
        ACTIVE = "active"
        RETIRED = "retired"
        """Kept for its history."""

    id = models.CharField(primary_key=True, max_length=40)
    household = models.ForeignKey(Household, on_delete=models.PROTECT, related_name="frames")
    hardware = models.CharField(max_length=64)
    locale = models.CharField(max_length=64)
    timezone = models.CharField(max_length=64, default="UTC")
    """IANA name of where it hangs: rollouts keep to its own days and nights."""
    site = models.CharField(max_length=64, blank=True)
    """The uplink that it shares with other frames; "" for its household's own."""
    simulated = models.BooleanField(default=False)
    lifecycle = models.CharField(max_length=8, choices=Lifecycle.choices, default=Lifecycle.ACTIVE)
    """``Lifecycle``"""
    enrolled_at = models.DateTimeField(default=now)
    certificate_fingerprint = models.CharField(max_length=64, blank=True)
    """SHA-256 of the newest certificate (DER), in hex; empty before birth."""
    last_seen = models.DateTimeField(null=True, blank=True)
    """When the backend last took a message of it in."""
    agent_version = models.CharField(max_length=64, blank=True)
    desired_version = models.BigIntegerField(default=0)
    """The version of the DesiredState the frame says it holds."""

    class Meta:
        ordering = ("id",)
        indexes = (
            models.Index(fields=["locale"]),
            models.Index(fields=["last_seen"]),
            models.Index(fields=["lifecycle"], name="frame_not_active", condition=~Q(lifecycle="active")),
        )

    def __str__(self) -> str:
        return self.id


class FrameGroup(models.Model):
    """A saved query over frames, evaluated anew whenever it is asked; ``fleet.groups`` says how."""

    name = models.CharField(max_length=64, unique=True)
    query = models.CharField(max_length=500, blank=True)
    quiet_from = models.SmallIntegerField(null=True, blank=True)
    """Minute of the frame's own day from which its frames download nothing, until ``quiet_to``; both or neither."""
    quiet_to = models.SmallIntegerField(null=True, blank=True)
    daily_mb = models.IntegerField(null=True, blank=True)
    """What each of its frames may download a day, in MB of 10^6 bytes; empty for no bound."""
    transfer_revision = models.BigIntegerField(default=1)
    """Counts changes of these three, so that DesiredStates of before are issued anew."""

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
