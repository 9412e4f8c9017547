"""Which of the server's documents may replace those of an offline folder: decided here, after verification."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from tuf.api.metadata import Metadata, Root, Targets

from framectl import documents as tuf
from framectl.errors import CommandFailed
from framectl.offline import OfflineFolder
from protocol.chunks import sha256_hex
from protocol.limits import MAX_DOCUMENT, MAX_MESSAGE, MAX_ROOT_STEPS

RootOf = Callable[[str, int], bytes]
"""Role and version -> that root, from the server."""


def newest(
    folder: OfflineFolder, offered: dict[str, Any], root_of: RootOf, *, discard_unpushed: bool
) -> tuple[tuf.Documents, dict[Path, bytes]]:
    """The documents to put in place, and the roots between this folder's and the server's (path -> bytes).

    Raises CommandFailed when one must not be trusted, or when the folder holds signed documents that the server has
    never seen and ``discard_unpushed`` is False.
    """
    merged: tuf.Documents = {}
    for role in (*tuf.ROOTS, *tuf.TARGETS_ROLES):
        if role not in offered:
            raise CommandFailed(f"The server offers no {role} document: is its repository set up?")
        merged[role] = tuf.parse(role, msgspec.json.encode(offered[role]))
    between: dict[Path, bytes] = {}
    for role in tuf.ROOTS:
        between |= _walk(folder, role, merged[role], root_of)
    tuf.verify(merged)
    changed: tuf.Documents = {}
    unpushed: list[str] = []
    for role, theirs in merged.items():
        ours = folder.documents[role]
        if theirs.signed == ours.signed:
            continue
        if theirs.signed.version <= ours.signed.version or _lacks_targets(theirs, ours):
            unpushed.append(f"{role} {ours.signed.version}")
        changed[role] = theirs
    unpushed += _proposed(folder, changed)
    if unpushed and not discard_unpushed:
        raise CommandFailed(
            f"This folder holds documents that the server does not have ({', '.join(unpushed)}): push their packages, "
            "or drop them with --discard-unpushed."
        )
    return changed, between


def release_manifests(
    folder: OfflineFolder, changed: tuf.Documents, fetch: Callable[[str, int], bytes]
) -> dict[Path, bytes]:
    """Manifests of signed releases that the folder lacks, fetched by hash and checked."""
    document: Metadata[Any] = changed.get("release", folder.documents["release"])
    found: dict[Path, bytes] = {}
    for target in document.signed.targets.values():
        path = folder.path / "releases" / target.path.removeprefix("release/")
        sha256 = target.hashes["sha256"]
        if target.path.count("/") != 1 or target.length > MAX_MESSAGE:
            raise CommandFailed(f"The signed release target {target.path!r} is odd: check who signed it.")
        if path.exists() and path.stat().st_size <= MAX_MESSAGE and sha256_hex(path.read_bytes()) == sha256:
            continue
        data = fetch(sha256, MAX_DOCUMENT)
        if sha256_hex(data) != sha256:
            raise CommandFailed(f"The server's copy of {target.path} does not have the signed hash.")
        found[path] = data
    return found


def _lacks_targets(theirs: Metadata[Any], ours: Metadata[Any]) -> bool:
    """Whether we signed files that the server's document does not hold: a higher version alone does not say that it
    came from ours, because two copies of a folder count on their own."""
    if not isinstance(ours.signed, Targets):
        return False
    return any(theirs.signed.targets.get(path) != target for path, target in ours.signed.targets.items())


def _proposed(folder: OfflineFolder, changed: tuf.Documents) -> list[str]:
    """Documents that collect signatures here and that would be lost, because these replace them or what belongs to
    them; none when these are what came of them."""
    proposed = folder.proposal.documents if folder.proposal is not None else {}
    if not any(
        role in changed and changed[role].signed.version >= new.signed.version for role, new in proposed.items()
    ):
        return []
    return [
        f"{role} {new.signed.version}, not yet signed by all"
        for role, new in proposed.items()
        if role not in changed or changed[role].signed != new.signed
    ]


def _walk(folder: OfflineFolder, role: str, theirs: Metadata[Root], root_of: RootOf) -> dict[Path, bytes]:
    """Verify every step from this folder's root to the server's. Returns the roots in between."""
    ours = folder.documents[role]
    if theirs.signed == ours.signed:
        return {}
    if not ours.signed.version < theirs.signed.version <= ours.signed.version + MAX_ROOT_STEPS:
        raise CommandFailed(
            f"The server's {role} has version {theirs.signed.version}, this folder's {ours.signed.version}: push the "
            "folder's roles first, or look which of them is the right one."
        )
    found: dict[Path, bytes] = {}
    for version in range(ours.signed.version + 1, theirs.signed.version + 1):
        data = theirs.to_bytes() if version == theirs.signed.version else root_of(role, version)
        step = tuf.parse(role, data)
        if step.signed.version != version:
            raise CommandFailed(f"The server's {role} {version} is really {step.signed.version}: do not trust it.")
        tuf.verify_by(ours.signed, role, step)
        tuf.verify_by(step.signed, role, step)
        if version < theirs.signed.version:
            found[folder.root_path(role, version)] = step.to_bytes()
        ours = step
    return found
