"""The Django app ``fleet``."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class FleetConfig(AppConfig):
    """Frames, what they say, and who may ask."""

    name = "fleet"
    verbose_name = _("Fleet")
