"""What Prometheus reads about publication and rollouts: gauges that are read from the database when they are asked for.

``register`` puts them into prometheus-client's default registry; ``dashboards`` serves that.
"""

from collections.abc import Iterable

from django.db import DatabaseError
from django.db.models import Min
from django.utils import timezone
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class OtaCollector(Collector):
    """Publication backlog and time left of what is signed online."""

    def describe(self) -> Iterable[Metric]:
        """Nothing is read at registration."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The gauges now; none while the database does not answer, so that the other metrics still are."""
        try:
            return list(_gauges())
        except DatabaseError:
            return []


def register() -> None:
    """Register the gauges once per process."""
    global _registered
    if not _registered:
        REGISTRY.register(OtaCollector())
        _registered = True


_registered = False


def _gauges() -> Iterable[Metric]:
    # Models can be imported only once the apps are ready, and this module is imported while they get ready.
    from ota import publication
    from ota.models import DesiredState, TufDocument

    retained, desired = publication.backlog()
    backlog = GaugeMetricFamily(
        "framefleet_publication_backlog", "Retained messages that the broker does not have yet.", labels=["kind"]
    )
    backlog.add_metric(["repository"], retained)
    backlog.add_metric(["desired"], desired)
    yield backlog
    now = timezone.now()
    left = GaugeMetricFamily(
        "framefleet_seconds_to_expiry", "Time until frames stop believing what is signed.", labels=["document"]
    )
    for row in TufDocument.objects.order_by("role", "-version").distinct("role"):
        left.add_metric([row.role], (row.expires_at - now).total_seconds())
    earliest = DesiredState.objects.aggregate(at=Min("expires_at"))["at"]
    if earliest is not None:
        left.add_metric(["desired-state"], (earliest - now).total_seconds())
    yield left
