"""The Django app ``fleet``, and Django's admin as the fleet has it."""

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps
from django.utils.translation import gettext_lazy as _

from fleet.clock import warn_if_hurried


class FleetConfig(AppConfig):
    """Frames, what they say, and who may ask."""

    name = "fleet"
    verbose_name = _("Fleet")
    default = True

    def ready(self) -> None:
        """Say loudly when time is not real."""
        warn_if_hurried()


class FleetAdminConfig(admin_apps.AdminConfig):
    """The admin's pages are for admins."""

    default_site = "fleet.admin_site.FleetAdminSite"
    default = False
