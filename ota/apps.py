"""The Django app ``ota``."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OtaConfig(AppConfig):
    """Artifacts, the signed repository, releases, desired states and rollouts."""

    name = "ota"
    verbose_name = _("Releases and rollouts")

    def ready(self) -> None:
        """Register what Prometheus reads from this package."""
        from ota import metrics

        metrics.register()
