"""What each frame should run. The table is the publisher's outbox."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from fleet.models import Frame, FrameGroup
from ota.models.release import Release


class DesiredState(models.Model):
    """One frame's DesiredState. Due for publication while ``version`` is ahead of ``published_version``."""

    frame = models.OneToOneField(Frame, primary_key=True, on_delete=models.CASCADE, related_name="desired")
    version = models.BigIntegerField()
    release = models.ForeignKey(Release, null=True, blank=True, on_delete=models.PROTECT, related_name="desired_states")
    envelope = models.BinaryField()
    """The signed envelope as it goes over the wire."""
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    renew_at = models.DateTimeField(default=timezone.now, db_index=True)
    """When it is to be issued anew, well before it expires."""
    order = models.BigIntegerField(default=0)
    """The version at which its release was first asked for; 0 for what was issued before orders were counted."""
    published_version = models.BigIntegerField(default=0)
    group = models.ForeignKey(FrameGroup, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    """Whose quiet hours and budget it carries."""
    transfer_revision = models.BigIntegerField(default=0)
    """The group's when it was issued: behind it, it is issued anew."""
    base_model = models.BooleanField(default=True)
    """Whether the frame may fetch a base model for it."""

    class Meta:
        indexes = (models.Index(fields=["frame"], name="desired_due", condition=Q(version__gt=F("published_version"))),)

    def __str__(self) -> str:
        return f"{self.frame_id}: version {self.version}"
