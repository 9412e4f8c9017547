"""One release on its way to one FrameGroup."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from fleet.models import Frame, FrameGroup
from ota.domain.rollout import FAILURE_LIMIT, RolloutState
from ota.models.release import Release

STATES = [(state.value, state.value.replace("_", " ")) for state in RolloutState]


class Rollout(models.Model):
    """``revision`` counts every change of state: what an operator was looking at travels with a command."""

    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="rollouts")
    group = models.ForeignKey(FrameGroup, on_delete=models.PROTECT, related_name="rollouts")
    salt = models.CharField(max_length=32)
    plan = models.JSONField(default=dict)
    """``ota.domain.plan.Plan`` in JSON's types."""
    priority = models.SmallIntegerField(default=0)
    end_at = models.DateTimeField(null=True, blank=True)
    """The plan's: frames return then."""
    overruled = models.SmallIntegerField(default=0)
    """The stage whose verdict a person has resumed over."""
    superseded_by = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    began_at = models.DateTimeField(null=True, blank=True)
    """When it began to run: the evidence counts from here."""
    enlisted_at = models.DateTimeField(null=True, blank=True)
    """When it was last brought up to date with its group; real time."""
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
                fields=["id"],
                name="rollout_active",
                condition=Q(state__in=["proposed", "scheduled", "running", "paused", "rolling_back"]),
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
    dwell_h = models.FloatField(default=0)
    opened_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    accepted_failures = models.IntegerField(null=True, blank=True)
    """Failed frames that a person has seen and resumed over."""

    class Meta:
        ordering = ("number",)
        constraints = (models.UniqueConstraint(fields=["rollout", "number"], name="rolloutstage_once"),)

    def __str__(self) -> str:
        return f"stage {self.number} ({self.share:.0%})"


class Look(models.Model):
    """One look at the evidence: written by ``evaluate`` outside any lock, read by the tick. Rows are only ever added,
    and the oldest beyond a bound removed."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="looks")
    stage = models.IntegerField()
    at = models.DateTimeField()
    decision = models.CharField(max_length=8)
    reason = models.CharField(max_length=32)
    metrics = models.JSONField(default=list)
    """Names of the metrics that the reason is about."""
    log_total = models.FloatField(null=True)
    """Log of the harm's total; None when no metric counts."""
    needed = models.FloatField()
    benefit = models.BooleanField(default=False)
    """Whether what the plan asks of the release's benefit is shown."""
    evidence = models.JSONField(default=dict)
    """``ota.domain.analysis.verdict.Evidence`` and the verdict's terms, in JSON's types."""

    class Meta:
        ordering = ("id",)
        indexes = (models.Index(fields=["rollout", "-id"]),)

    def __str__(self) -> str:
        return f"{self.decision}: {self.reason}"


class Pin(models.Model):
    """A frame that no rollout touches; it keeps ``release``, or whatever it has."""

    frame = models.OneToOneField(Frame, primary_key=True, on_delete=models.CASCADE, related_name="pin")
    release = models.ForeignKey(Release, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=500)
    by = models.CharField(max_length=150)
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.frame_id}: {self.reason}"


class Freeze(models.Model):
    """While one is not lifted, nothing is offered to anybody but in an emergency."""

    reason = models.CharField(max_length=500)
    by = models.CharField(max_length=150)
    at = models.DateTimeField(default=timezone.now)
    lifted_by = models.CharField(max_length=150, blank=True)
    lifted_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.reason


class RolloutEvent(models.Model):
    """Something that happened to a rollout, by people and engine alike. Rows are only ever added.

    ``detail["action"]`` is the action (``ota.domain.actions``), ``detail["look"]`` the verdict behind it: all of a
    rollout's give its state again.
    """

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
