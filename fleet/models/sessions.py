"""Which starts of its agent a frame has spoken from."""

from django.db import models
from django.utils import timezone

from fleet.models.frames import Frame


class FrameSessions(models.Model):
    """One frame's sessions of the last day (``fleet.clones``), and whether they show two frames with one identity."""

    frame = models.OneToOneField(Frame, primary_key=True, on_delete=models.CASCADE, related_name="sessions")
    heard = models.JSONField(default=dict)
    cloned_at = models.DateTimeField(null=True, blank=True, db_index=True)
    """When that was last seen."""
    noted_at = models.DateTimeField(null=True, blank=True)
    """When it was last told: once a day."""
    changed_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"sessions of {self.frame_id}"
