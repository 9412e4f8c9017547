"""Django's admin for what has no page in the console. Telemetry and the audit trail are for reading alone."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.forms import ModelForm
from django.http import HttpRequest

from fleet import admin_people, models  # noqa: F401  registers people
from fleet.services.groups import check_group
from protocol.errors import Refused

if TYPE_CHECKING:
    Admin = admin.ModelAdmin[Model]
    GroupForm = ModelForm[models.FrameGroup]
else:  # generic for the type checker only
    Admin, GroupForm = admin.ModelAdmin, ModelForm


class ReadOnly(Admin):
    """Rows that services alone write."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody changes by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody deletes by hand."""
        return False


@admin.register(models.Household)
class HouseholdAdmin(Admin):
    """Households."""

    search_fields = ("id",)


@admin.register(models.Frame)
class FrameAdmin(Admin):
    """Frames; they come by a claim and leave by being retired, which the console and ``framectl frames`` do."""

    list_display = ("id", "lifecycle", "locale", "hardware", "simulated", "last_seen", "agent_version")
    list_filter = ("lifecycle", "simulated", "locale", "hardware")
    search_fields = ("id",)
    autocomplete_fields = ("household",)
    readonly_fields = (
        "id",
        "lifecycle",
        "certificate_fingerprint",
        "enrolled_at",
        "last_seen",
        "agent_version",
        "desired_version",
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """See above."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """See above."""
        return False


class FrameGroupForm(GroupForm):
    """A group with a query that can be read."""

    def clean(self) -> dict[str, Any]:
        """Raises ValidationError with the sentence that the REST API gives too."""
        found = super().clean() or {}
        try:
            check_group(found.get("name", ""), found.get("query", ""))
        except Refused as refused:
            raise ValidationError(refused.detail) from None
        return found


@admin.register(models.FrameGroup)
class FrameGroupAdmin(Admin):
    """Groups."""

    fields = ("name", "query")  # hours and budget: framectl groups transfer
    form = FrameGroupForm  # type: ignore[assignment]  # ModelAdmin[Model] above stands for all tables
    list_display = ("name", "query")
    search_fields = ("name",)


@admin.register(models.FrameCertificate)
class FrameCertificateAdmin(ReadOnly):
    """Certificates of frames; issued and revoked by the console and framectl, which write that down."""

    list_display = ("frame", "serial_hex", "authority", "issued_at", "good_until", "revoked_at")
    search_fields = ("frame__id", "serial_hex")
    exclude = ("der",)


@admin.register(models.ReportedState)
class ReportedStateAdmin(ReadOnly):
    """What frames say they run."""

    list_display = ("frame", "state", "release", "desired_version", "failure_reason", "received_at")
    list_filter = ("state", "failure_reason")
    search_fields = ("frame__id",)


@admin.register(models.ApiToken)
class ApiTokenAdmin(ReadOnly):
    """API tokens can be looked at; people make and revoke them on their account's page, which writes that down."""

    list_display = ("name", "user", "scope", "created_at", "expires_at", "last_used_at")
    list_filter = ("scope",)
    search_fields = ("name", "user__username")
    exclude = ("digest",)


@admin.register(models.AuditEntry)
class AuditEntryAdmin(ReadOnly):
    """Who did what."""

    list_display = ("at", "actor", "action", "subject")
    list_filter = ("action",)
    search_fields = ("actor", "subject")


@admin.register(models.HealthEvent)
class HealthEventAdmin(ReadOnly):
    """What ops should know."""

    list_display = ("received_at", "frame", "kind", "detail")
    list_filter = ("kind",)
    search_fields = ("frame__id",)


@admin.register(models.Playback, models.Complaint, models.PowerSample)
class EventAdmin(ReadOnly):
    """Telemetry."""

    list_display = ("at", "frame", "release")
    search_fields = ("frame__id",)


@admin.register(models.FrameDay)
class FrameDayAdmin(ReadOnly):
    """The roll-up."""

    list_display = ("day", "frame", "release", "playbacks", "completed", "complaints", "power_samples")
    search_fields = ("frame__id",)
