"""The TUF documents of an offline folder, without I/O: made, signed, advanced by one version, verified.

One signature per role satisfies each role here (threshold 1); documents that come from elsewhere are verified against
whatever threshold their delegator demands.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Delegations, Key, Metadata, Root, Signed, TargetFile, Targets
from tuf.api.serialization import DeserializationError

from framectl.errors import CommandFailed
from protocol.limits import MAX_DOCUMENT
from protocol.repository import DELEGATIONS, DIRECTOR_ROOT, OFFLINE_ROLES, ArtifactManifest

LIFETIME = timedelta(days=365)
"""How long an offline document is valid."""

KEY_ROLES = (*OFFLINE_ROLES, DIRECTOR_ROOT)
"""Every role with a key in the offline folder."""

ROOTS = ("root", DIRECTOR_ROOT)
TARGETS_ROLES = ("targets", *DELEGATIONS)

Documents = dict[str, Metadata[Any]]
"""Role -> signed document; ``director-root`` is the director's root."""


def online_keys(text: bytes) -> dict[str, Key]:
    """The server's public online keys from the JSON of ``GET online-keys/``. Raises CommandFailed."""
    try:
        found = msgspec.json.decode(text, type=dict[str, dict[str, Any]])
        keys = {
            name: Key.from_dict(str(found[name]["keyid"]), dict(found[name]["key"]))
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


def first_documents(signers: Mapping[str, CryptoSigner], online: Mapping[str, Key], now: datetime) -> Documents:
    """Version 1 of every offline document. ``signers`` has all KEY_ROLES, ``online`` snapshot, timestamp, director."""
    expires = _expiry(now)
    root = Root(version=1, expires=expires, consistent_snapshot=True)
    root.add_key(signers["root"].public_key, "root")
    root.add_key(signers["targets"].public_key, "targets")
    root.add_key(online["snapshot"], "snapshot")
    root.add_key(online["timestamp"], "timestamp")

    # The director's root delegates only its targets role; snapshot and timestamp have no key, so nothing can be theirs.
    director = Root(version=1, expires=expires, consistent_snapshot=True)
    director.add_key(signers[DIRECTOR_ROOT].public_key, "root")
    director.add_key(online["director"], "targets")

    delegated = {
        role: DelegatedRole(role, [signers[role].public_key.keyid], 1, terminating=True, paths=list(paths))
        for role, paths in DELEGATIONS.items()
    }
    keys = {signers[role].public_key.keyid: signers[role].public_key for role in DELEGATIONS}
    targets = Targets(version=1, expires=expires, delegations=Delegations(cast("dict[str, Key]", keys), delegated))

    documents: dict[str, Signed] = {"root": root, DIRECTOR_ROOT: director, "targets": targets}
    documents |= {role: Targets(version=1, expires=expires) for role in DELEGATIONS}
    return {role: _signed(document, signers[role]) for role, document in documents.items()}


def target_file(path: str, length: int, sha256: str, manifest: ArtifactManifest) -> TargetFile:
    """The signed entry of one artifact."""
    return TargetFile(length, {"sha256": sha256}, path, {"custom": msgspec.to_builtins(manifest)})


def with_targets(
    role: str, current: Metadata[Targets], added: Iterable[TargetFile], signer: CryptoSigner, now: datetime
) -> Metadata[Targets]:
    """The next version of a delegated document, with more targets and all earlier ones unchanged."""
    document: Metadata[Targets] = Metadata.from_bytes(current.to_bytes())
    document.signed.version += 1
    document.signed.expires = _expiry(now)
    for target in added:
        document.signed.targets[target.path] = target
    document.sign(signer)
    if (size := len(document.to_bytes())) > MAX_DOCUMENT:
        raise CommandFailed(
            f"The {role} document would have {size} bytes and frames take {MAX_DOCUMENT} at most: "
            "start a new repository."
        )
    return document


def parse(role: str, data: bytes) -> Metadata[Any]:
    """One document, of the type its role asks for; signatures are not looked at. Raises CommandFailed."""
    try:
        document: Metadata[Any] = Metadata.from_bytes(data)
    except (DeserializationError, RecursionError) as error:
        raise CommandFailed(f"The {role} document cannot be read: {error}.") from None
    wanted = Root if role in ROOTS else Targets
    if not isinstance(document.signed, wanted):
        raise CommandFailed(
            f"The {role} document is of the type {document.signed.type}: it was saved under a wrong name."
        )
    return document


def verify(documents: Documents) -> None:
    """Every document is signed by its delegator's keys, from the two roots down. Raises CommandFailed."""
    for role in (*ROOTS, *TARGETS_ROLES):
        if role not in documents:
            raise CommandFailed(f"The {role} document is missing: restore the offline folder, or pull from the server.")
        delegator = documents[_delegator(role)].signed
        verify_by(delegator, role, documents[role])


def verify_by(delegator: Root | Targets, role: str, document: Metadata[Any]) -> None:
    """``document`` carries enough signatures of the keys ``delegator`` names for it. Raises CommandFailed."""
    name = "root" if role in ROOTS else role
    try:
        delegator.verify_delegate(name, document.signed_bytes, document.signatures)
    except (RepositoryError, ValueError) as error:
        raise CommandFailed(f"The {role} document has no valid signature of the {role} key ({error}).") from None


def refuse_expired(documents: Documents, now: datetime) -> None:
    """The roots and the top-level targets document are still valid. Raises CommandFailed."""
    for role in (*ROOTS, "targets"):
        if documents[role].signed.is_expired(now):
            raise CommandFailed(
                f"The {role} document expired on {documents[role].signed.expires:%Y-%m-%d}: renew it first."
            )


def _delegator(role: str) -> str:
    if role in ROOTS:
        return role
    return "root" if role == "targets" else "targets"


def _expiry(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(microsecond=0) + LIFETIME


def _signed(signed: Signed, signer: CryptoSigner) -> Metadata[Any]:
    document: Metadata[Any] = Metadata(signed)
    document.sign(signer)
    return document
