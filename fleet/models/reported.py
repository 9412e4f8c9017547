"""What each frame says it runs."""

from django.db import models

from fleet.models.frames import Frame


class ReportedState(models.Model):
    """The newest report of one frame, ordered by its journal. Releases are opaque digests here ("" for none)."""

    frame = models.OneToOneField(Frame, primary_key=True, on_delete=models.CASCADE, related_name="reported")
    journal_id = models.CharField(max_length=32)
    sequence = models.BigIntegerField()
    at = models.DateTimeField()
    state = models.CharField(max_length=16)
    desired_version = models.BigIntegerField()
    release = models.CharField(max_length=64, blank=True, db_index=True)
    slot = models.CharField(max_length=1, blank=True)
    target = models.CharField(max_length=64, blank=True)
    failure_reason = models.CharField(max_length=32, blank=True)
    failure_detail = models.CharField(max_length=500, blank=True)
    lip_errors = models.JSONField(default=list, blank=True)
    """List of {segment, lip_mm, mean_pose_mm, limit_mm}: what the last trial measured."""
    figures = models.JSONField(default=dict, blank=True)
    """Name with unit -> number: what it measured beside them, and how far probation has come."""
    received_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.frame_id}: {self.state}"
