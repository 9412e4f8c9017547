"""When, how much and what frames may download for their DesiredState."""

from dataclasses import dataclass

from django.conf import settings
from django.db.models import QuerySet
from msgspec import UNSET, UnsetType

from fleet.models import Frame, FrameGroup, ReportedState
from ota.models import Artifact, Release
from protocol.messages import TransferPolicy

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Terms:
    """Whose hours and budget count, and whether a base model may be fetched."""

    group: FrameGroup | None = None
    base_model: bool = True


OPEN = Terms()
"""No hours, no bounds."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """How many of the ``frames`` that said what they run lack the base model of a release."""

    artifact: Artifact
    path: str
    count: int
    frames: int


def policy(terms: Terms) -> TransferPolicy | UnsetType:
    """What a DesiredState says under these terms; nothing where they say nothing."""
    http: str | None = settings.FRAMEFLEET_ARTIFACT_URL or None
    group = terms.group
    if group is None and terms.base_model and http is None:
        return UNSET
    return TransferPolicy(
        quiet_from=group.quiet_from if group is not None else None,
        quiet_to=group.quiet_to if group is not None else None,
        daily_bytes=group.daily_mb * MB if group is not None and group.daily_mb is not None else None,
        base_model=terms.base_model,
        http=http,
    )


def lacking(release: Release, frames: QuerySet[Frame]) -> Lacking | None:
    """How many of these frames would have to fetch the release's base model; None when it brings none.

    A frame that never reported is not counted: nobody knows what it has.
    """
    target = release.targets.filter(artifact__kind="base_model").select_related("artifact").first()
    if target is None:
        return None
    reported = ReportedState.objects.filter(frame__in=frames)
    with_it = Release.objects.filter(targets__artifact=target.artifact).values("digest")
    known = reported.count()
    return Lacking(target.artifact, target.path, known - reported.filter(release__in=with_it).count(), known)
