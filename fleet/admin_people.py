"""People in Django's admin: their name, whether they may log in, and one role. Groups and permissions stay hidden: the
role is all there is. Whoever lost phone and recovery codes alike gets their second factor taken away here."""

from typing import TYPE_CHECKING, Any

import axes.admin  # noqa: F401
import django_otp.plugins.otp_totp.admin  # noqa: F401
from axes.models import AccessFailureLog, AccessLog
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group, User
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django_otp.plugins.otp_totp.models import TOTPDevice

from fleet.permissions import Role, role_named, role_of
from fleet.services import second_factor
from fleet.services.audit import audit
from fleet.services.people import LastAdmin, check_role, set_role

if TYPE_CHECKING:
    Change = UserChangeForm[User]
    Creation = AdminUserCreationForm[User]
    Users = UserAdmin[User]
else:  # generic for the type checker only
    Change, Creation, Users = UserChangeForm, AdminUserCreationForm, UserAdmin

CHOICES = [("", "none"), *((role.word, role.word) for role in Role)]


def _role_field() -> forms.ChoiceField:
    return forms.ChoiceField(choices=CHOICES, required=False)


class PersonForm(Change):
    """Somebody who is there."""

    role = _role_field()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        role = role_of(self.instance) if self.instance.is_active else None
        self.fields["role"].initial = role.word if role else ""

    def clean(self) -> dict[str, Any]:
        """Raises ValidationError when nobody would be left to put it right."""
        found = super().clean() or {}
        role = role_named(found.get("role", "")) if found.get("is_active") else None
        try:
            check_role(self.instance, role)
        except LastAdmin as refused:
            raise forms.ValidationError(str(refused)) from None
        return found


class NewPersonForm(Creation):
    """Somebody new."""

    role = _role_field()


class PersonAdmin(Users):
    """Users."""

    form = PersonForm
    add_form = NewPersonForm
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (None, {"fields": ("role", "is_active", "first_name", "last_name", "email", "last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "role", "usable_password", "password1", "password2")}),)
    list_display = ("username", "role", "second_factor", "is_active", "last_login")
    list_filter = ("is_active",)
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()
    actions = ("remove_second_factor",)

    @admin.display(description="role")
    def role(self, user: User) -> str:
        """The role's name."""
        role = role_of(user)
        return role.word if role else "none"

    @admin.display(description="second factor", boolean=True)
    def second_factor(self, user: User) -> bool:
        """Whether there is one."""
        return second_factor.app_of(user) is not None

    @admin.action(description="Remove the second factor of the selected users")
    def remove_second_factor(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        """For whoever lost it."""
        removed = sum(second_factor.remove(user, request.user.get_username()) for user in chosen)
        self.message_user(request, f"Removed: {removed}.", messages.SUCCESS)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The role, by the service that writes it down."""
        super().save_related(request, form, formsets, change)
        actor, user = request.user.get_username(), form.instance
        if not change:
            audit(actor, "make_user", user.get_username())
        elif {"is_active", "username"} & set(form.changed_data):
            audit(actor, "change_user", user.get_username(), {"active": user.is_active})
        wanted = role_named(form.cleaned_data.get("role", ""))
        # Somebody who is switched on again has the role that the form showed, not the one from before.
        if "role" in form.changed_data or not change or (user.is_active and role_of(user) is not wanted):
            set_role(user, wanted, actor)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Somebody else's password; written down once it is set."""
        answer = super().user_change_password(request, id, form_url)
        if request.method == "POST" and answer.status_code == 302:
            audit(request.user.get_username(), "set_password", User.objects.get(pk=id).get_username())
        return answer

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """People are switched off, so that what they did keeps its name."""
        return False


# Imported above, or it would register its tables after this. An app's secret is nobody's to look at, and the log of
# logins is the audit log.
for model in (User, Group, TOTPDevice, AccessLog, AccessFailureLog):
    admin.site.unregister(model)
admin.site.register(User, PersonAdmin)
