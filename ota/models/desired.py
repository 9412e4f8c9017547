"""What each frame should run. The table is the publisher's outbox."""

from django.db import models
from django.db.models import F, Q

from fleet.models import Frame
from ota.models.release import Release


class DesiredState(models.Model):
    """One frame's DesiredState. Due for publication while ``version`` is ahead of ``published_version``."""

    frame = models.OneToOneField(Frame, primary_key=True, on_delete=models.CASCADE, related_name="desired")
    version = models.BigIntegerField()
    release = models.ForeignKey(Release, null=True, blank=True, on_delete=models.PROTECT, related_name="desired_states")
    envelope = models.BinaryField()
    """The signed envelope as it goes over the wire."""
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    published_version = models.BigIntegerField(default=0)

    class Meta:
        indexes = (models.Index(fields=["frame"], name="desired_due", condition=Q(version__gt=F("published_version"))),)

    def __str__(self) -> str:
        return f"{self.frame_id}: version {self.version}"
