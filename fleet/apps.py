"""The Django app ``fleet``, and Django's admin as the fleet has it."""

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps
from django.utils.translation import gettext_lazy as _


class FleetConfig(AppConfig):
    """Frames, what they say, and who may ask."""

    name = "fleet"
    verbose_name = _("Fleet")
    default = True


class FleetAdminConfig(admin_apps.AdminConfig):
    """The admin's pages are for admins."""

    default_site = "fleet.admin_site.FleetAdminSite"
    default = False
