"""The TUF documents of an offline folder, without I/O: made, advanced by one version, checked for signatures.

Nothing here signs. A document is made unsigned, collects signatures (``framectl.proposals``), and counts once its
delegators' thresholds are met: a root needs its own keys and those of the root before it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Signed, TargetFile, Targets
from tuf.api.serialization import DeserializationError, SerializationError

from framectl.errors import CommandFailed
from framectl.publickeys import check_id, label
from protocol.limits import MAX_DOCUMENT
from protocol.repository import DELEGATIONS, DIRECTOR_ROOT, OFFLINE_ROLES, ArtifactManifest

LIFETIME = timedelta(days=365)
"""How long an offline document is valid."""

KEY_ROLES = (*OFFLINE_ROLES, DIRECTOR_ROOT)
"""Every role with offline keys."""

ROOTS = ("root", DIRECTOR_ROOT)
TARGETS_ROLES = ("targets", *DELEGATIONS)
ALL = (*ROOTS, *TARGETS_ROLES)
"""Every document of the folder, delegators first."""

SIGNATURE_SIZE = 300
"""Bytes kept free in a document for each signature it still collects."""

Documents = dict[str, Metadata[Any]]
"""Role -> document; ``director-root`` is the director's root."""


@dataclass(frozen=True, slots=True)
class Holders:
    """Whose keys a role has, and how many of them must sign."""

    keys: tuple[Key, ...]
    threshold: int = 1


@dataclass(frozen=True, slots=True)
class Need:
    """What one delegator demands of one document: ``threshold`` of its keys; these have signed, those have not."""

    role: str
    threshold: int
    signed: dict[str, Key]
    unsigned: dict[str, Key]

    @property
    def met(self) -> bool:
        """Whether enough have signed."""
        return len(self.signed) >= self.threshold

    def __str__(self) -> str:
        missing = ", ".join(sorted(label(key) for key in self.unsigned.values())) or "nobody: no key is named for it"
        return f"The {self.role} document has {len(self.signed)} of {self.threshold} signatures: missing {missing}"


def online_keys(text: bytes) -> dict[str, Key]:
    """The server's public online keys from the JSON of ``GET online-keys/``. Raises CommandFailed."""
    try:
        found = msgspec.json.decode(text, type=dict[str, dict[str, Any]])
        keys = {
            name: check_id(Key.from_dict(str(found[name]["keyid"]), dict(found[name]["key"])))
            for name in ("snapshot", "timestamp", "director")
        }
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise CommandFailed(
            f"These are not the server's online keys ({error}): save the answer of GET online-keys/."
        ) from None
    for name, key in keys.items():
        if key.keytype != "ed25519":
            raise CommandFailed(f"The {name} key is {key.keytype}, but online keys must be ed25519.")
    return keys


def first_documents(holders: Mapping[str, Holders], online: Mapping[str, Key], now: datetime) -> Documents:
    """Version 1 of every document, unsigned. ``holders`` has KEY_ROLES, ``online`` snapshot, timestamp, director."""
    expires = expiry(now)
    root = Root(version=1, expires=expires, consistent_snapshot=True)
    # The director's root delegates only its targets role; snapshot and timestamp have no key, so nothing can be theirs.
    director = Root(version=1, expires=expires, consistent_snapshot=True)
    for document, role, name in (
        (root, "root", "root"),
        (root, "targets", "targets"),
        (director, "root", DIRECTOR_ROOT),
    ):
        for key in holders[name].keys:
            document.add_key(key, role)
        document.roles[role].threshold = holders[name].threshold
    root.add_key(online["snapshot"], "snapshot")
    root.add_key(online["timestamp"], "timestamp")
    director.add_key(online["director"], "targets")

    delegated = {
        role: DelegatedRole(
            role,
            [key.keyid for key in holders[role].keys],
            holders[role].threshold,
            terminating=True,
            paths=list(paths),
        )
        for role, paths in DELEGATIONS.items()
    }
    keys = {key.keyid: key for role in DELEGATIONS for key in holders[role].keys}
    targets = Targets(version=1, expires=expires, delegations=Delegations(keys, delegated))

    documents: dict[str, Signed] = {"root": root, DIRECTOR_ROOT: director, "targets": targets}
    documents |= {role: Targets(version=1, expires=expires) for role in DELEGATIONS}
    return {role: Metadata(document) for role, document in documents.items()}


def next_version(current: Metadata[Any], now: datetime) -> Metadata[Any]:
    """The same content as the next version, unsigned."""
    document = copy_of(current)
    document.signed.version += 1
    document.signed.expires = expiry(now)
    document.signatures.clear()
    return document


def copy_of(document: Metadata[Any]) -> Metadata[Any]:
    """An independent copy."""
    return Metadata.from_bytes(document.to_bytes())


def target_file(path: str, length: int, sha256: str, manifest: ArtifactManifest) -> TargetFile:
    """The signed entry of one artifact."""
    return TargetFile(length, {"sha256": sha256}, path, {"custom": msgspec.to_builtins(manifest)})


def with_targets(role: str, documents: Documents, added: Iterable[TargetFile], now: datetime) -> Metadata[Targets]:
    """The next version of a delegated document, unsigned, with more targets and all earlier ones unchanged."""
    document = next_version(documents[role], now)
    for target in added:
        document.signed.targets[target.path] = target
    threshold = delegations(documents["targets"])[role].threshold
    if (size := len(document.to_bytes()) + threshold * SIGNATURE_SIZE) > MAX_DOCUMENT:
        raise CommandFailed(
            f"The {role} document would have {size} bytes and frames take {MAX_DOCUMENT} at most: "
            "start a new repository."
        )
    return document


def parse(role: str, data: bytes) -> Metadata[Any]:
    """One document, of the type its role asks for, whose key ids are those of its keys; signatures are not looked at.
    Raises CommandFailed."""
    try:
        document: Metadata[Any] = Metadata.from_bytes(data)
    except (DeserializationError, RecursionError) as error:
        raise CommandFailed(f"The {role} document cannot be read: {error}.") from None
    wanted = Root if role in ROOTS else Targets
    if not isinstance(document.signed, wanted):
        raise CommandFailed(
            f"The {role} document is of the type {document.signed.type}: it was saved under a wrong name."
        )
    holder = document.signed if isinstance(document.signed, Root) else document.signed.delegations
    for key in holder.keys.values() if holder is not None else ():
        check_id(key)
    return document


def verify(documents: Documents) -> None:
    """Every document is signed by its delegator's keys, from the two roots down. Raises CommandFailed."""
    for role in ALL:
        if role not in documents:
            raise CommandFailed(f"The {role} document is missing: restore the offline folder, or pull from the server.")
        verify_by(documents[delegator_of(role)].signed, role, documents[role])


def verify_by(delegator: Root | Targets, role: str, document: Metadata[Any]) -> None:
    """``document`` carries enough signatures of the keys ``delegator`` names for it. Raises CommandFailed."""
    need = need_of(delegator, role, document)
    if not need.met:
        raise CommandFailed(f"{need}.")


def need_of(delegator: Root | Targets, role: str, document: Metadata[Any]) -> Need:
    """What ``delegator`` demands of ``document`` and who has signed it. Raises CommandFailed."""
    name = "root" if role in ROOTS else role
    try:
        result = delegator.get_verification_result(name, document.signed_bytes, document.signatures)
    except (ValueError, KeyError, UnverifiedSignatureError, SerializationError) as error:
        raise CommandFailed(f"The {role} document cannot be checked: {error}.") from None
    return Need(role, result.threshold, dict(result.signed), dict(result.unsigned))


def needs(proposed: Documents, current: Documents) -> list[Need]:
    """All that ``proposed`` must be signed by before it may follow ``current``; what is demanded twice is said once."""
    found: list[Need] = []
    merged = current | proposed
    for role in ALL:
        if role not in proposed:
            continue
        delegators = [merged[delegator_of(role)].signed]
        if role in ROOTS and role in current:
            delegators.insert(0, current[role].signed)
        for delegator in delegators:
            need = need_of(delegator, role, proposed[role])
            if need not in found:
                found.append(need)
    return found


def refuse_expired(documents: Documents, now: datetime) -> None:
    """The roots and the top-level targets document are still valid. Raises CommandFailed."""
    for role in (*ROOTS, "targets"):
        if documents[role].signed.is_expired(now):
            raise CommandFailed(
                f"The {role} document expired on {documents[role].signed.expires:%Y-%m-%d}: renew it first, "
                "with `framectl keys renew`."
            )


def delegations(targets: Metadata[Any]) -> dict[str, DelegatedRole]:
    """The delegated roles of the top-level targets document. Raises CommandFailed when there are none."""
    found = targets.signed.delegations
    if found is None or not found.roles:
        raise CommandFailed("The targets document delegates nothing: restore the offline folder from its backup.")
    return dict(found.roles)


def delegator_of(role: str) -> str:
    """The document that names the keys of ``role``'s document."""
    if role in ROOTS:
        return role
    return "root" if role == "targets" else "targets"


def expiry(now: datetime) -> datetime:
    """When a document made now expires."""
    return now.astimezone(UTC).replace(microsecond=0) + LIFETIME
