"""Adding one person's signatures to a package that others have begun, offline.

Before anything is signed, the package is held against this person's own folder: every document is the next one, keeps
what was signed before and adds only what this release lists, and the bytes are those that the documents name.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from tuf.api.metadata import TargetFile

from framectl import documents as tuf
from framectl.agents import MAX_FILE, check_agent
from framectl.errors import CommandFailed
from framectl.offline import OfflineFolder
from framectl.package import Carried, Package, write_package
from framectl.proposals import OpenRelease, Proposal, add_signatures, missing
from framectl.signing import SignedRelease
from protocol.errors import Refused
from protocol.repository import ROLE_OF_KIND, artifact_manifest, role_of


def cosign(folder: OfflineFolder, path: Path, keys: Sequence[str], now: datetime) -> SignedRelease:
    """Sign where these keys belong and write the package anew; the folder takes part as if it had begun the release.

    Without a key that belongs anywhere, only what others have signed is taken over. Raises CommandFailed.
    """
    with Package.open(path) as package:
        documents = {role: tuf.parse(role, msgspec.json.encode(one)) for role, one in package.documents.items()}
        epoch = _check(folder, package, documents, now)
        _refuse_other_proposal(folder, package)
        package.verify_artifacts()
        agent = _agent(folder, package, documents)
        if missing(documents, folder.documents):
            signers = folder.signers(keys, documents)
            if not add_signatures(documents, folder.documents, signers) and keys:
                lacks = "; ".join(str(need) for need in missing(documents, folder.documents))
                raise CommandFailed(f"These keys have nothing to add: {lacks}.")
        lacks_still = [str(need) for need in missing(documents, folder.documents)]
        data = {role: one.to_bytes() for role, one in documents.items()}
        carried = [Carried(package, sha256) for sha256 in package.artifacts]
        write_package(path, package.manifest_bytes, data, carried, missing=lacks_still, overwrite=True)
        manifest = package.manifest
        folder.propose(Proposal(documents, OpenRelease(manifest.name, manifest.version, package.manifest_bytes)))
        folder.settle()
        versions = {role: one.signed.version for role, one in documents.items()}
        return SignedRelease(
            manifest.name, manifest.version, package.digest, manifest.targets, versions, path, epoch,
            tuple(lacks_still), agent,
        )  # fmt: skip


def _refuse_other_proposal(folder: OfflineFolder, package: Package) -> None:
    """The folder may be collecting signatures for this very release, not for anything else."""
    open_here = folder.proposal.release if folder.proposal is not None else None
    if open_here is None or open_here.manifest != package.manifest_bytes:
        folder.refuse_open_proposal()


def _check(folder: OfflineFolder, package: Package, documents: tuf.Documents, now: datetime) -> int:
    """The release's security epoch. Raises CommandFailed unless the documents say what the package claims."""
    manifest = package.manifest
    path = f"release/{manifest.name}-{manifest.version}.json"
    wanted = {target.path: target.sha256 for target in manifest.targets} | {path: package.digest}
    for role, document in documents.items():
        comes = folder.documents[role].signed.version + 1
        if document.signed.version != comes:
            raise CommandFailed(
                f"The package brings version {document.signed.version} of the {role} document, but {comes} comes next "
                "here: pull first, or have it signed anew."
            )
        if document.signed.expires > tuf.expiry(now) + timedelta(days=1) or document.signed.delegations is not None:
            raise CommandFailed(f"The package's {role} document delegates, or is valid for too long: do not sign it.")
        before = folder.documents[role].signed.targets
        if any(document.signed.targets.get(kept) != target for kept, target in before.items()):
            raise CommandFailed(f"The package's {role} document changes what was signed before: do not sign it.")
        for added, target in document.signed.targets.items():
            if added not in before:
                _check_added(role, added, target, wanted)
    merged = folder.documents | documents
    for listed, sha256 in wanted.items():
        entry = merged[_role(listed)].signed.targets.get(listed)
        if entry is None or entry.hashes.get("sha256") != sha256:
            raise CommandFailed(f"The package lists {listed}, which its documents do not sign: do not sign it.")
    return artifact_manifest(merged["release"].signed.targets[path].custom).security_epoch


def _agent(folder: OfflineFolder, package: Package, documents: tuf.Documents) -> str | None:
    """Version of the agent that the release brings. Raises CommandFailed when it is called another than it is."""
    merged = folder.documents | documents
    for listed in package.manifest.targets:
        manifest = artifact_manifest(merged[_role(listed.path)].signed.targets[listed.path].custom)
        if manifest.kind != "agent":
            continue
        if listed.sha256 in package.artifacts:
            if listed.length > MAX_FILE:
                raise CommandFailed(f"The package's {listed.path} is too long for an agent: do not sign it.")
            agent = check_agent(b"".join(package.read(listed.sha256)), f"The package's {listed.path}")
            if agent.version != manifest.version:
                raise CommandFailed(
                    f"The package's {listed.path} is agent {agent.version}, but its document calls it "
                    f"{manifest.version}: do not sign it."
                )
        return manifest.version
    return None


def _check_added(role: str, path: str, target: TargetFile, wanted: dict[str, str]) -> None:
    try:
        fits = _role(path) == role == ROLE_OF_KIND[artifact_manifest(target.custom).kind]
    except Refused:
        fits = False
    if not fits or wanted.get(path) != target.hashes.get("sha256"):
        raise CommandFailed(
            f"The package's {role} document adds {path}, which this release does not list: do not sign it."
        )


def _role(path: str) -> str:
    try:
        return role_of(path)
    except Refused as refusal:
        raise CommandFailed(f"The package cannot be signed: {refusal.detail}") from None
