"""The Django app ``ota``."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OtaConfig(AppConfig):
    """Artifacts, the signed repository, releases, desired states and rollouts."""

    name = "ota"
    verbose_name = _("Releases and rollouts")

    def ready(self) -> None:
        """Register what Prometheus reads from this package, and how groups find releases by name."""
        from fleet.groups import name_releases
        from ota import metrics
        from ota.selectors_releases import release_digest

        metrics.register()
        name_releases(release_digest)
