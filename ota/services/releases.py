"""Creating releases: everything is checked, stored and queued in one transaction, or nothing is."""

import re
from collections.abc import Mapping

import msgspec
from django.db import transaction
from tuf.api.metadata import TargetFile

from fleet.models import AuditEntry
from ota import repository
from ota.documents import Document, refuse
from ota.locks import Lock, hold
from ota.models import Artifact, Release, ReleaseTarget
from ota.services import artifacts
from protocol.chunks import sha256_hex
from protocol.codec import decode
from protocol.errors import Reason, Refused
from protocol.messages import TargetRef
from protocol.repository import ROLE_OF_KIND, ArtifactManifest, ReleaseManifest, artifact_manifest, role_of
from protocol.versions import older

Targets = Mapping[str, TargetFile]

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def create(manifest: bytes, given: Mapping[str, object], actor: str) -> tuple[Release, bool]:
    """The release whose manifest (release.json) these bytes are, with its newly signed documents (TUF JSON by role).

    Returns (release, whether it is new): pushing the same release again is harmless. Raises Refused with one sentence,
    and keeps nothing, when anything is wrong.
    """
    digest = sha256_hex(manifest)
    known = Release.objects.filter(digest=digest).first()
    if known is not None:
        return known, False
    content = decode(manifest, ReleaseManifest)
    for word in (content.name, content.version):
        if not _WORD.fullmatch(word):
            raise refuse(f"A release cannot be called {word!r}: use letters, digits and . _ + - for name and version.")
    # The manifest is an artifact too; storing it needs no transaction because it is named by its hash.
    artifacts.store(digest, [manifest])
    with transaction.atomic():
        hold(Lock.REPOSITORY)
        if (known := Release.objects.filter(digest=digest).first()) is not None:
            return known, False
        return _create(digest, len(manifest), content, given, actor), True


def _create(digest: str, length: int, content: ReleaseManifest, given: Mapping[str, object], actor: str) -> Release:
    label = f"{content.name} {content.version}"
    if Release.objects.filter(name=content.name, version=content.version).exists():
        raise refuse(f"The release {label} exists already with other content: give this one a new version.")
    before = repository.newest_documents()
    accepted = repository.accept_delegated(given)
    after = {**before, **accepted}
    path = _check_manifest_signed(digest, length, content, after)
    for role, document in accepted.items():
        _check_new_targets(role, before[role], document, after)
    named = [_check_listed(label, target, after) for target in content.targets]
    _check_bases(label, content.targets, named)
    _check_together(label, content.targets, named)
    release = Release.objects.create(
        digest=digest,
        name=content.name,
        version=content.version,
        manifest=msgspec.to_builtins(content),
        path=path,
        length=length,
        notes=content.notes,
        created_by=actor,
    )
    paths = {target.path: target.sha256 for target in content.targets}
    ReleaseTarget.objects.bulk_create(
        ReleaseTarget(release=release, path=target_path, artifact_id=sha256)
        for target_path, sha256 in {**paths, path: digest}.items()
    )
    for artifact in release.artifacts.all():
        artifacts.queue_chunks(artifact)
    repository.publish(accepted)
    AuditEntry.objects.create(
        actor=actor, action="release.push", subject=label, detail={"digest": digest, "roles": sorted(accepted)}
    )
    return release


def _check_new_targets(role: str, before: Document, after: Document, current: Mapping[str, Document]) -> None:
    """Every file that ``after`` adds was uploaded, and its manifest says the truth about it."""
    for path, target in after.metadata.signed.targets.items():
        if path in before.metadata.signed.targets:
            continue
        if role_of(path) != role:
            raise refuse(f"The {role} document lists {path}: only the role {role_of(path)} may.")
        artifact = _uploaded(path, target)
        manifest = artifact_manifest(target.custom)
        if ROLE_OF_KIND[manifest.kind] != role:
            raise refuse(f"{path} is called a {manifest.kind}, which the role {role} may not sign.")
        if (manifest.index or "") != artifact.index_root:
            raise refuse(f"{path} names another chunk index than its bytes have: sign the release again.")
        _check_base_known(path, manifest, current)
        if artifact.kind not in ("", manifest.kind):
            raise refuse(f"{path} is called a {manifest.kind}, but the same bytes were signed as a {artifact.kind}.")
        if not artifact.kind:
            Artifact.objects.filter(pk=artifact.pk).update(kind=manifest.kind)


def _uploaded(path: str, target: TargetFile) -> Artifact:
    sha256 = target.hashes.get("sha256", "")
    artifact = Artifact.objects.filter(pk=sha256).first()
    if artifact is None:
        raise Refused(Reason.BAD_ARTIFACT, f"The bytes of {path} ({sha256[:12]}) are not here: upload them first.")
    if artifact.length != target.length:
        raise Refused(
            Reason.BAD_ARTIFACT,
            f"{path} is signed with {target.length} bytes but has {artifact.length}: sign it again.",
        )
    return artifact


def _check_base_known(path: str, manifest: ArtifactManifest, current: Mapping[str, Document]) -> None:
    if manifest.kind != "lora_delta":
        return
    if manifest.base_model is None:
        raise refuse(f"{path} names no base model: sign it with the base model it was trained for.")
    if manifest.base_model not in _base_models(current):
        raise Refused(
            Reason.WRONG_BASE_MODEL,
            f"{path} is for the base model {manifest.base_model[:12]}, which no release has brought: push that first.",
        )


def _base_models(current: Mapping[str, Document]) -> set[str]:
    return {
        target.hashes["sha256"]
        for target in _targets(current["base"]).values()
        if artifact_manifest(target.custom).kind == "base_model"
    }


def _check_manifest_signed(digest: str, length: int, content: ReleaseManifest, current: Mapping[str, Document]) -> str:
    path = f"release/{content.name}-{content.version}.json"
    target = _targets(current["release"]).get(path)
    if target is None:
        raise refuse(f"No release document signs {path}: send the release document made with this manifest.")
    if target.hashes.get("sha256") != digest or target.length != length:
        raise refuse(f"The release document signs another {path}: send the manifest that was signed.")
    return path


def _check_listed(label: str, wanted: TargetRef, current: Mapping[str, Document]) -> ArtifactManifest:
    """The manifest of one artifact that the release lists, as signed."""
    role = role_of(wanted.path)
    target = _targets(current[role]).get(wanted.path)
    if role == "release" or target is None:
        raise refuse(
            f"The release {label} lists {wanted.path}, which the {role} document does not sign as an artifact."
        )
    if target.length != wanted.length or target.hashes.get("sha256") != wanted.sha256:
        raise Refused(
            Reason.ROLES_DISAGREE, f"The release {label} lists other bytes for {wanted.path} than the {role} document."
        )
    return artifact_manifest(target.custom)


def _check_bases(label: str, listed: list[TargetRef], named: list[ArtifactManifest]) -> None:
    """A frame must find an adapter's base model within the same release."""
    bases = {target.sha256 for target, it in zip(listed, named, strict=True) if it.kind == "base_model"}
    for target, manifest in zip(listed, named, strict=True):
        if manifest.kind == "lora_delta" and manifest.base_model not in bases:
            raise Refused(
                Reason.WRONG_BASE_MODEL,
                f"The release {label} lists {target.path} without its base model {str(manifest.base_model)[:12]}: "
                "list that too.",
            )


def _check_together(label: str, listed: list[TargetRef], named: list[ArtifactManifest]) -> None:
    """Some frame must be able to run all of it: frames install a release as a whole or not at all."""
    parts = list(zip(listed, named, strict=True))
    for kind, least, word in (("base_model", 1, "base model"), ("lora_delta", 0, "adapter"), ("agent", 0, "agent")):
        count = sum(manifest.kind == kind for manifest in named)
        if not least <= count <= 1:
            need = "exactly one" if least else "one at most"
            raise Refused(
                Reason.INCOMPATIBLE, f"The release {label} lists {count} files of kind {word}: a frame runs {need}."
            )
    for target, manifest in parts:
        if manifest.kind == "agent":
            _check_agent(label, target.path, manifest, parts)
    first: tuple[str, set[str]] | None = None
    for target, manifest in parts:
        if not manifest.hardware:
            continue
        if first is not None and not first[1] & set(manifest.hardware):
            raise Refused(
                Reason.INCOMPATIBLE,
                f"The release {label} lists {first[0]} for {', '.join(sorted(first[1]))} and {target.path} for "
                f"{', '.join(manifest.hardware)}: no frame can run both. Make a release for each.",
            )
        first = (target.path, set(manifest.hardware) & (first[1] if first is not None else set(manifest.hardware)))


def _check_agent(
    label: str, path: str, agent: ArtifactManifest, parts: list[tuple[TargetRef, ArtifactManifest]]
) -> None:
    """What else the release lists runs under the agent that it brings, never under the one before."""
    if not agent.version:
        raise refuse(f"{path} does not say which version of the agent it is: sign the release again.")
    for target, manifest in parts:
        if manifest.kind != "agent" and older(agent.version, manifest.min_agent):
            raise Refused(
                Reason.INCOMPATIBLE,
                f"The release {label} lists {target.path}, which needs agent {manifest.min_agent}, and {path} is agent "
                f"{agent.version}: no frame could run it. Bring a newer agent.",
            )


def _targets(document: Document) -> Targets:
    targets: Targets = document.metadata.signed.targets
    return targets
