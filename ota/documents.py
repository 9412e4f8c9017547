"""Reading and checking single TUF documents, without a database. Every refusal is one sentence."""

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Signed, Targets
from tuf.api.serialization import DeserializationError, SerializationError
from tuf.api.serialization.json import JSONSerializer

from protocol.errors import Reason, Refused
from protocol.limits import MAX_DOCUMENT
from protocol.repository import DELEGATIONS, DIRECTOR_ROOT, KEY_NAME

T = TypeVar("T", bound=Signed)

ROOTS = ("root", DIRECTOR_ROOT)

MIN_LIFE = dt.timedelta(days=1)
"""A document that expires sooner is refused: frames would stop taking anything before long."""


@dataclass(frozen=True)
class Document:
    """One document: ``role`` as in its topic, the parsed metadata, and the bytes that go over the wire."""

    role: str
    metadata: Metadata[Any]
    wire: bytes

    @property
    def version(self) -> int:
        """Its version."""
        return int(self.metadata.signed.version)

    @property
    def expires_at(self) -> dt.datetime:
        """When frames stop believing it (UTC)."""
        expires: dt.datetime = self.metadata.signed.expires
        return expires.replace(tzinfo=dt.UTC)


def refuse(detail: str, reason: Reason = Reason.BAD_MESSAGE) -> Refused:
    """A refusal of a document."""
    return Refused(reason, detail)


def parse(role: str, content: object, kind: type[T]) -> Document:
    """The document of ``role`` from parsed JSON. Raises Refused unless it is a signed TUF document of ``kind``."""
    if not isinstance(content, dict):
        raise refuse(f"The {role} document is no JSON object: send the signed TUF document itself.")
    try:
        # By way of bytes, because Metadata.from_dict empties the dictionary it is given.
        metadata: Metadata[Any] = Metadata.from_bytes(json.dumps(content).encode())
        wire = serialize(metadata)
    except (ValueError, TypeError, RecursionError, DeserializationError, SerializationError) as error:
        raise refuse(f"The {role} document is no TUF document: {error}.") from None
    if not isinstance(metadata.signed, kind):
        raise refuse(f"The {role} document is of type {metadata.signed.type}: send one of type {kind.type}.")
    return _sized(Document(role, metadata, wire))


def from_wire(role: str, wire: bytes) -> Document:
    """A document that was accepted before. Raises ValueError when the stored bytes are damaged."""
    try:
        return Document(role, Metadata.from_bytes(wire), wire)
    except DeserializationError as error:
        raise ValueError(f"The stored {role} document is damaged: restore the database from a backup.") from error


def serialize(metadata: Metadata[Any]) -> bytes:
    """The bytes on the wire."""
    data: bytes = metadata.to_bytes(JSONSerializer(compact=True))
    return data


def _sized(document: Document) -> Document:
    if len(document.wire) > MAX_DOCUMENT:
        raise refuse(
            f"The {document.role} document has {len(document.wire)} bytes, more than the {MAX_DOCUMENT} a frame takes: "
            "sign fewer targets into it."
        )
    return document


def check_life(document: Document, now: dt.datetime) -> None:
    """Raises Refused when the document expires within MIN_LIFE."""
    if document.expires_at < now + MIN_LIFE:
        raise refuse(
            f"The {document.role} document expires at {document.expires_at:%Y-%m-%d %H:%M} UTC: sign it again "
            "with a later date.",
            Reason.EXPIRED,
        )


def check_signed(delegator: Root | Targets, document: Document, role: str | None = None) -> None:
    """Raises Refused(WRONG_SIGNATURE), naming the role, unless enough of the delegator's keys for ``role`` signed."""
    role = role or document.role
    whose = " by the root before it" if document.role in ROOTS and delegator is not document.metadata.signed else ""
    try:
        result = delegator.get_verification_result(role, document.metadata.signed_bytes, document.metadata.signatures)
    except (ValueError, KeyError):
        raise refuse(f"No key is named for the role {role}: sign the documents above it again.") from None
    except (UnverifiedSignatureError, SerializationError) as error:
        raise refuse(f"The {document.role} document cannot be checked: {error}.", Reason.WRONG_SIGNATURE) from None
    if not result:
        raise refuse(
            f"The {document.role} document has {len(result.signed)} of {result.threshold} signatures{whose}: missing "
            f"{', '.join(sorted(_label(key) for key in result.unsigned.values())) or 'every key'}.",
            Reason.WRONG_SIGNATURE,
        )


def _label(key: Key) -> str:
    """What people call the key, and the beginning of its id."""
    name = str(key.unrecognized_fields.get(KEY_NAME, ""))[:40]
    return f"{name} ({key.keyid[:8]})" if name.isprintable() and name else key.keyid[:8]


def check_each_key_once(document: Document) -> None:
    """Raises Refused when one key would count twice towards a threshold, under two key ids."""
    signed: Root | Targets = document.metadata.signed
    delegations = signed if isinstance(signed, Root) else signed.delegations
    if delegations is None:
        return
    for name, role in (delegations.roles or {}).items():
        values = [_material(delegations.keys[keyid]) for keyid in role.keyids if keyid in delegations.keys]
        if len(set(values)) < len(values):
            raise refuse(f"The {document.role} document names one key twice for {name}: give every person a key.")


def _material(key: Key) -> bytes:
    """What the key is, however its text is spelled (hex in capitals, PEM with other line ends). Raises Refused."""
    text = str(key.keyval.get("public", ""))
    try:
        if key.keytype == "ed25519":
            return bytes.fromhex(text)
        return load_pem_public_key(text.encode()).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise refuse(f"The public key {_label(key)} cannot be read: {error}.") from None


def check_names_key(root: Document, role: str, keys: Iterable[Key]) -> None:
    """Raises Refused unless ``root`` has ``role`` signed by exactly one of our online ``keys``, and by nobody else."""
    signed: Root = root.metadata.signed
    entry = signed.roles[role]
    ours = {key.keyid: key for key in keys}
    named = [ours.get(keyid) for keyid in entry.keyids]
    if len(named) != 1 or named[0] is None or signed.keys.get(entry.keyids[0]) != named[0] or entry.threshold != 1:
        raise refuse(
            f"The {root.role} document does not name this server's online key for {role}: take it from "
            "GET online-keys/ and sign again.",
            Reason.WRONG_IDENTITY,
        )


def check_delegations(targets: Document) -> None:
    """Raises Refused unless ``targets`` delegates exactly protocol.repository.DELEGATIONS and lists nothing itself."""
    signed: Targets = targets.metadata.signed
    roles = signed.delegations.roles if signed.delegations else None
    found: Mapping[str, Any] = roles or {}
    expected = {role: list(paths) for role, paths in DELEGATIONS.items()}
    if {name: role.paths for name, role in found.items()} != expected or not all(
        role.terminating for role in found.values()
    ):
        raise refuse(
            f"The targets document must delegate exactly {', '.join(DELEGATIONS)}, each terminating and for its own "
            "paths: make it with framectl keys create."
        )
    if signed.targets:
        raise refuse("The targets document lists files itself: only the roles it delegates to may.")


def check_no_delegations(document: Document) -> None:
    """Raises Refused when a delegated role delegates further."""
    if document.metadata.signed.delegations is not None:
        raise refuse(f"The {document.role} document delegates further: only the targets document may.")


FIRST_KINDS: dict[str, type[Root] | type[Targets]] = {
    "root": Root,
    DIRECTOR_ROOT: Root,
    "targets": Targets,
    **dict.fromkeys(DELEGATIONS, Targets),
}
"""Role -> type of the documents a repository begins with."""
