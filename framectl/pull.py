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
from protocol.limits import MAX_DOCUMENT, MAX_MESSAGE


def newest(folder: OfflineFolder, offered: dict[str, Any], *, discard_unpushed: bool) -> tuf.Documents:
    """The documents to put in place. Raises CommandFailed when one must not be trusted, or when the folder holds
    signed documents that the server has never seen and ``discard_unpushed`` is False."""
    merged: tuf.Documents = {}
    for role in (*tuf.ROOTS, *tuf.TARGETS_ROLES):
        if role not in offered:
            raise CommandFailed(f"The server offers no {role} document: is its repository set up?")
        merged[role] = tuf.parse(role, msgspec.json.encode(offered[role]))
    for role in tuf.ROOTS:
        _check_root_step(role, folder.documents[role], merged[role])
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
    if unpushed and not discard_unpushed:
        raise CommandFailed(
            f"This folder holds documents that the server does not have ({', '.join(unpushed)}): push their packages, "
            "or drop them with --discard-unpushed."
        )
    return changed


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


def _check_root_step(role: str, ours: Metadata[Root], theirs: Metadata[Root]) -> None:
    if theirs.signed == ours.signed:
        return
    if theirs.signed.version != ours.signed.version + 1:
        raise CommandFailed(
            f"The server's {role} has version {theirs.signed.version}, this folder's {ours.signed.version}: "
            "only the next version can be verified; bring the versions between from another offline folder."
        )
    tuf.verify_by(ours.signed, role, theirs)
