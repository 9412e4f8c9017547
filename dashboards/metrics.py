"""Gauges that are read from the database when Prometheus asks, so that they are true in whichever process answers."""

from collections.abc import Iterator

from django.db.models import Count
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dashboards.selectors import running_releases
from fleet import clock
from fleet.selectors import frame_counts
from ota.models import Deployment, Rollout

ACTIVE = ("running", "paused", "rolling_back")


class ConsoleCollector(Collector):
    """The fleet and its rollouts as of now."""

    def describe(self) -> list[Metric]:
        """Nothing ahead of time: registering must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        counts = frame_counts(clock.now())
        frames = GaugeMetricFamily("framefleet_frames", "Enrolled frames.", labels=["simulated"])
        frames.add_metric(["true"], counts.simulated)
        frames.add_metric(["false"], counts.total - counts.simulated)
        yield frames
        yield GaugeMetricFamily(
            "framefleet_frames_seen_recently", "Frames heard of in the last five minutes.", value=counts.seen
        )

        releases = GaugeMetricFamily(
            "framefleet_frames_by_release", "Frames by the release they say they run.", labels=["release", "digest"]
        )
        for row in running_releases():
            releases.add_metric([row.name, row.digest], row.frames)
        yield releases

        rollouts = GaugeMetricFamily("framefleet_rollouts", "Rollouts by state.", labels=["state"])
        for state, count in Rollout.objects.order_by().values_list("state").annotate(n=Count("id")):
            rollouts.add_metric([state], count)
        yield rollouts

        deployments = GaugeMetricFamily(
            "framefleet_rollout_frames",
            "Frames of rollouts that have not ended, by stage and Deployment state; stage 0 is exposed by none.",
            labels=["rollout", "stage", "state"],
        )
        rows = Deployment.objects.filter(rollout__state__in=ACTIVE).order_by().values_list("rollout", "stage", "state")
        for rollout, stage, state, count in rows.annotate(n=Count("id")):
            deployments.add_metric([str(rollout), str(stage or 0), state], count)
        yield deployments


def scrape_registry() -> CollectorRegistry:
    """A registry of these gauges alone, made for one answer."""
    registry = CollectorRegistry()
    registry.register(ConsoleCollector())
    return registry
