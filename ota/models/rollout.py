"""One release on its way to one FrameGroup."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from fleet.models import FrameGroup
from ota.domain.rollout import FAILURE_LIMIT, RolloutState
from ota.models.release import Release

STATES = [(state.value, state.value.replace("_", " ")) for state in RolloutState]


class Rollout(models.Model):
    """``revision`` counts every change of state: what an operator was looking at travels with a command."""

    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="rollouts")
    group = models.ForeignKey(FrameGroup, on_delete=models.PROTECT, related_name="rollouts")
    salt = models.CharField(max_length=32)
    state = models.CharField(max_length=16, choices=STATES, default=RolloutState.RUNNING.value)
    reason = models.CharField(max_length=500, blank=True)
    """Why it is in this state."""
    revision = models.BigIntegerField(default=1)
    current_stage = models.IntegerField(default=0)
    failure_limit = models.FloatField(default=FAILURE_LIMIT)
    base_model = models.BooleanField(default=False)
    """Whether frames that lack the release's base model may fetch it; others of them refuse the release."""
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes: ClassVar = [
            models.Index(
                fields=["id"], name="rollout_active", condition=Q(state__in=["proposed", "running", "paused"])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.release} to {self.group}"


class RolloutStage(models.Model):
    """A share of the group."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="stages")
    number = models.IntegerField()
    share = models.FloatField()
    gate = models.CharField(max_length=16, default="committed")
    opened_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    accepted_failures = models.IntegerField(null=True, blank=True)
    """Failed frames that a person has seen and resumed over."""

    class Meta:
        ordering = ("number",)
        constraints = (models.UniqueConstraint(fields=["rollout", "number"], name="rolloutstage_once"),)

    def __str__(self) -> str:
        return f"stage {self.number} ({self.share:.0%})"


class RolloutEvent(models.Model):
    """Something that happened to a rollout, by people and engine alike. Rows are only ever added."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=150)
    kind = models.CharField(max_length=32)
    reason = models.CharField(max_length=500, blank=True)
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.actor}: {self.kind}"
