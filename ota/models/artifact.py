"""Immutable files, named by their SHA-256."""

from django.db import models
from django.utils import timezone


class Artifact(models.Model):
    """One file. Its bytes lie in ``ota.storage`` under the same name, so the row can never name other bytes."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    kind = models.CharField(max_length=16, blank=True)
    """``protocol.repository.ArtifactKind``, empty until a signed target says it."""
    length = models.BigIntegerField()
    index_root = models.CharField(max_length=64, blank=True)
    """Root of the chunk index as computed here, empty for a file of one chunk."""
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.kind or 'artifact'} {self.sha256[:12]}"
