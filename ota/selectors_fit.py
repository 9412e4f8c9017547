"""Which frames a release can run on, by the conditions that were signed with its files.

Frames check all of this themselves and refuse what does not fit. It is asked here first so that nobody is offered what
they can only refuse, and so that people see beforehand whom a release leaves out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q, QuerySet
from tuf.api.metadata import TargetFile

from fleet.models import Frame
from ota import documents
from ota.domain.causes import Code
from ota.models import Artifact, Release, TufDocument
from protocol.repository import ROLE_OF_KIND, ArtifactManifest, artifact_manifest, role_of
from protocol.versions import older


@dataclass(frozen=True, slots=True)
class Conditions:
    """``hardware`` empty for any; ``min_agent`` "0" for any: of the agent that runs before the release is installed;
    ``base`` the bundle (SHA-256) that the release lists, and ``agent`` the version of the agent, "" for none."""

    hardware: tuple[str, ...]
    min_agent: str
    base: str
    base_path: str
    agent: str = ""


def conditions(release: Release) -> Conditions:
    """Of all of the release's files together, as they are signed now.

    Where the release brings an agent, its other files run under that one: what runs before must only be able to
    install it.
    """
    hardware: set[str] | None = None
    min_agent, base, base_path = "0", "", ""
    brought: ArtifactManifest | None = None
    paths = [target for target in release.targets.select_related("artifact") if target.path != release.path]
    signed = {role: _signed(role) for role in {role_of(target.path) for target in paths}}
    for target in paths:
        file = signed[role_of(target.path)].get(target.path)
        if file is None:
            continue
        manifest = artifact_manifest(file.custom)
        if manifest.hardware:
            hardware = set(manifest.hardware) if hardware is None else hardware & set(manifest.hardware)
        min_agent = manifest.min_agent if older(min_agent, manifest.min_agent) else min_agent
        if manifest.kind == "base_model":
            base, base_path = target.artifact_id, target.path
        elif manifest.kind == "agent":
            brought = manifest
    if brought is None:
        return Conditions(tuple(sorted(hardware or ())), min_agent, base, base_path)
    return Conditions(tuple(sorted(hardware or ())), brought.min_agent, base, base_path, brought.version or "")


def agent_versions(releases: Iterable[Release]) -> dict[str, str]:
    """TUF target name of every agent that these releases bring -> the version that it reports, as it is signed."""
    paths = {target.path for release in releases for target in release.targets.all() if target.artifact.kind == "agent"}
    files = _signed(ROLE_OF_KIND["agent"]) if paths else {}
    return {path: artifact_manifest(files[path].custom).version or "" for path in paths & files.keys()}


def unfit(needs: Conditions, frames: QuerySet[Frame], *, base_model: bool) -> dict[Code, Q]:
    """Why some of ``frames`` cannot run a release with these needs: reason -> which frames (to be tried in this order).
    Only what is known counts: a frame that never said what it runs is taken to have what it needs."""
    found: dict[Code, Q] = {}
    if needs.hardware:
        found[Code.FRAME_HARDWARE] = ~Q(hardware__in=needs.hardware)
    if older("0", needs.min_agent):
        versions = frames.order_by().exclude(agent_version="").values_list("agent_version", flat=True).distinct()
        found[Code.FRAME_AGENT] = Q(agent_version__in=[one for one in versions if older(one, needs.min_agent)])
    if needs.base and not base_model:
        having = Release.objects.filter(targets__artifact=needs.base).values("digest")
        found[Code.FRAME_BASE] = Q(reported__isnull=False) & ~Q(reported__release__in=having)
    return found


def suited(release: Release, frames: QuerySet[Frame], *, base_model: bool) -> QuerySet[Frame]:
    """Those of ``frames`` that can run the release as far as anybody knows."""
    for which in unfit(conditions(release), frames, base_model=base_model).values():
        frames = frames.exclude(which)
    return frames


def base_label(needs: Conditions) -> str:
    """The base model with its size, for people."""
    artifact = Artifact.objects.filter(pk=needs.base).first()
    return f"{needs.base_path} ({artifact.length / 1e6:.1f} MB)" if artifact is not None else needs.base_path


def _signed(role: str) -> dict[str, TargetFile]:
    row = TufDocument.objects.filter(role=role).order_by("-version").first()
    return {} if row is None else dict(documents.from_wire(role, bytes(row.document)).metadata.signed.targets)
