"""Django's admin for reading what the console does not show. Nothing here is changed by hand: services write it."""

from django.contrib import admin

from fleet.admin import ReadOnly
from ota import models


@admin.register(models.Artifact)
class ArtifactAdmin(ReadOnly):
    """Artifacts."""

    list_display = ("sha256", "kind", "length", "created_at")
    list_filter = ("kind",)
    search_fields = ("sha256",)


@admin.register(models.TufDocument)
class TufDocumentAdmin(ReadOnly):
    """Signed documents."""

    list_display = ("role", "version", "expires_at", "created_at")
    list_filter = ("role",)


@admin.register(models.Release)
class ReleaseAdmin(ReadOnly):
    """Releases."""

    list_display = ("name", "version", "digest", "created_by", "created_at", "published_at")
    search_fields = ("name", "version", "digest")


@admin.register(models.DesiredState)
class DesiredStateAdmin(ReadOnly):
    """DesiredStates."""

    list_display = ("frame_id", "version", "release", "issued_at", "expires_at", "published_version")
    list_select_related = ("release",)
    search_fields = ("frame__id",)


@admin.register(models.RetainedObject)
class RetainedObjectAdmin(ReadOnly):
    """What the broker keeps."""

    list_display = ("topic", "order", "length", "revision", "published")
    list_filter = ("order", "published")
    search_fields = ("topic",)


@admin.register(models.Rollout)
class RolloutAdmin(ReadOnly):
    """Rollouts."""

    list_display = ("id", "release", "group", "state", "current_stage", "created_by", "created_at")
    list_filter = ("state",)
    list_select_related = ("release", "group")


@admin.register(models.Deployment)
class DeploymentAdmin(ReadOnly):
    """Deployments."""

    list_display = ("rollout_id", "frame_id", "stage", "arm", "state", "reason", "updated_at")
    list_filter = ("state", "arm", "reason")
    search_fields = ("frame__id",)


@admin.register(models.RolloutEvent)
class RolloutEventAdmin(ReadOnly):
    """The trail of rollouts."""

    list_display = ("at", "rollout_id", "actor", "kind", "reason")
    list_filter = ("kind",)
