"""Releases: immutable, signed sets of artifacts that belong together."""

from django.db import models
from django.utils import timezone

from ota.models.artifact import Artifact


class Release(models.Model):
    """One release. ``digest`` is the SHA-256 of its manifest, which is an artifact too: what frames report."""

    digest = models.CharField(primary_key=True, max_length=64)
    name = models.CharField(max_length=64)
    version = models.CharField(max_length=64)
    manifest = models.JSONField()
    path = models.CharField(max_length=200)
    """The manifest's TUF target name."""
    length = models.BigIntegerField()
    """Bytes of the manifest."""
    notes = models.CharField(max_length=500, blank=True)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)
    published_at = models.DateTimeField(null=True, blank=True)
    """When the broker had all of it; empty again while a broker that lost its store is refilled."""
    artifacts = models.ManyToManyField(Artifact, through="ReleaseTarget", related_name="releases")

    class Meta:
        ordering = ("-created_at",)
        constraints = (models.UniqueConstraint(fields=["name", "version"], name="release_once"),)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class ReleaseTarget(models.Model):
    """One artifact of a release under its TUF target name."""

    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="targets")
    artifact = models.ForeignKey(Artifact, on_delete=models.PROTECT, related_name="release_targets")
    path = models.CharField(max_length=200)

    class Meta:
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=["release", "path"], name="releasetarget_once"),)

    def __str__(self) -> str:
        return self.path
