"""One frame in one rollout."""

from django.db import models
from django.db.models import Q

from fleet import clock
from fleet.models import Frame
from ota.domain.deployment import DeploymentState
from ota.models.release import Release
from ota.models.rollout import Rollout

STATES = [(state.value, state.value) for state in DeploymentState]


class Deployment(models.Model):
    """``u`` and ``arm`` come from the household's salted hash; ``stage`` is the first that exposes the frame (empty
    when none does). ``former_release`` is what an abort or a rollback gives back."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="deployments")
    frame = models.ForeignKey(Frame, on_delete=models.CASCADE, related_name="deployments")
    stage = models.IntegerField(null=True)
    arm = models.CharField(max_length=8)
    u = models.FloatField()
    state = models.CharField(max_length=16, choices=STATES, default=DeploymentState.PENDING.value)
    reason = models.CharField(max_length=32, blank=True)
    detail = models.CharField(max_length=500, blank=True)
    desired_version = models.BigIntegerField(default=0)
    """The DesiredState that carried the offer."""
    former_release = models.ForeignKey(Release, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    offered_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True)
    committed_at = models.DateTimeField(null=True, blank=True)
    entered_at = models.DateTimeField(null=True, blank=True, default=clock.now)
    """When the frame came into the rollout; empty for those of before this was kept."""
    left_at = models.DateTimeField(null=True, blank=True)
    """When it was first seen to be retired or replaced, or to belong to the rollout no more before it had the release:
    from then on the evidence does not count it."""
    targeted = models.BooleanField(null=True, blank=True)
    """Whether it was of the plan's target when it came in, whatever it does since; empty: not asked."""
    attempts = models.SmallIntegerField(default=0)
    """Offers so far; more than one where its failures are of a kind that is tried again."""
    attempted_at = models.DateTimeField(null=True, blank=True)
    """The newest offer, or when a frame that had been dark took it up; ``offered_at`` is the first offer, from which on
    the evidence counts the frame."""
    failed_at = models.DateTimeField(null=True, blank=True)
    """When it failed or went back for the first time; it stays when it is tried again."""
    dark_at = models.DateTimeField(null=True, blank=True)
    """When it had been silent for 24 h for the first time since the rollout began, offered or not."""
    returned_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("frame_id",)
        constraints = (models.UniqueConstraint(fields=["rollout", "frame"], name="deployment_once"),)
        indexes = (
            models.Index(fields=["rollout", "stage", "state"]),
            models.Index(fields=["rollout", "u"], name="deployment_waiting", condition=Q(state="pending")),
        )

    def __str__(self) -> str:
        return f"{self.frame_id}: {self.state}"
