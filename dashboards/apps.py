"""The console: pages and charts for people, /metrics for Prometheus. It reads; what changes goes through services."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DashboardsConfig(AppConfig):
    name = "dashboards"
    verbose_name = _("Console")
