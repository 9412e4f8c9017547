"""Whose frame is meant to run a release because of which rollout. Services ask this too, so it asks none of them."""

from django.db.models import Exists, OuterRef, Q, QuerySet

from ota.models import Deployment, Rollout


def standing_offers(rollout: Rollout) -> QuerySet[Deployment]:
    """Deployments whose frame is meant to run the release because of this rollout: what an abort or a rollback can take
    back. A frame that a later rollout has is that one's, unless its offer was taken back again; a pinned one is
    nobody's."""
    kept = Q(rollout__state__in=("running", "paused", "succeeded")) | Q(rollout__state="aborted", state="committed")
    later = Deployment.objects.filter(kept, frame=OuterRef("frame"), rollout__gt=rollout.pk, offered_at__isnull=False)
    offered = rollout.deployments.filter(
        offered_at__isnull=False, frame__desired__release=rollout.release_id, frame__pin=None
    )
    return offered.exclude(Exists(later))
