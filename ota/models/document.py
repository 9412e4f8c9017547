"""The TUF repository's documents, exactly as they were signed."""

from django.db import models
from django.utils import timezone


class TufDocument(models.Model):
    """One signed document. ``role`` is the name in its topic: ``root``, ``director-root``, ``targets``, ..."""

    role = models.CharField(max_length=32)
    version = models.IntegerField()
    document = models.BinaryField()
    """The bytes on the wire."""
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("role", "-version")
        constraints = (models.UniqueConstraint(fields=["role", "version"], name="tufdocument_once"),)

    def __str__(self) -> str:
        return f"{self.role} {self.version}"
