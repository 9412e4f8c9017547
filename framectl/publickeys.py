"""Public keys as people hand them around: one JSON file each, with a name, and where the private key is.

``{"name": "alice", "keyid": "…", "key": {TUF key}, "uri": "file:alice.pem"}``

The name travels inside the signed documents (a field of the TUF key), so that everybody who misses a signature, the
server included, can say whose. Frames get these documents: use roles or initials where names should stay at home.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Key

from framectl.errors import CommandFailed
from framectl.files import read_file, write_file
from protocol.repository import KEY_NAME

MAX_PUBLIC = 16 * 1024
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key with its name; ``uri`` is None when nobody said where the private key is."""

    name: str
    key: Key
    uri: str | None = None

    @property
    def named(self) -> Key:
        """The key as documents carry it."""
        return with_name(self.key, self.name)


def with_name(key: Key, name: str) -> Key:
    """The same key, called ``name``."""
    content: dict[str, Any] = {**key.to_dict(), KEY_NAME: name}
    return Key.from_dict(key.keyid, content)


def name_of(key: Key) -> str | None:
    """What people call this key, if anything."""
    name = key.unrecognized_fields.get(KEY_NAME)
    return name if isinstance(name, str) and _NAME.fullmatch(name) else None


def label(key: Key) -> str:
    """``alice (0a1b2c3d)``; without a name only the beginning of the key id."""
    name = name_of(key)
    return f"{name} ({key.keyid[:8]})" if name else key.keyid[:8]


def check_name(name: str) -> str:
    """Raises CommandFailed unless this can be a key's name."""
    if _NAME.fullmatch(name) is None:
        raise CommandFailed(f"A key cannot be called {name!r}: use 1 to 32 of a-z, 0-9 and '-'.")
    return name


def id_of(key: Key) -> str:
    """The key id that belongs to this key: a hash of its type, scheme and value."""
    content = {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}
    return hashlib.sha256(str(encode_canonical(content)).encode()).hexdigest()


def check_id(key: Key) -> Key:
    """Raises CommandFailed unless the key has the id that belongs to it. People compare ids by voice and are shown
    changes by id: under an id of its own choice, somebody else's key would look like the one that was there."""
    if id_of(key) != key.keyid:
        raise CommandFailed(
            f"The key id of {label(key)} is not that of this key: do not use it, and ask whom it came from."
        )
    return key


def material(key: Key) -> bytes:
    """What the key is, however its text is spelled (hex in capitals, PEM with other line ends).

    Raises CommandFailed.
    """
    text = str(key.keyval.get("public", ""))
    try:
        if key.keytype == "ed25519":
            return bytes.fromhex(text)
        return load_pem_public_key(text.encode()).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CommandFailed(f"The public key {label(key)} cannot be read ({error}): make it anew.") from None


def write_public(path: Path, public: PublicKey) -> None:
    """Write a public key file, never over an existing one. Raises CommandFailed."""
    if path.exists():
        raise CommandFailed(f"{path} exists already and keys are never overwritten: choose another name.")
    content = {"name": public.name, "keyid": public.key.keyid, "key": public.key.to_dict(), "uri": public.uri}
    write_file(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def read_public(path: Path) -> PublicKey:
    """A public key file. Raises CommandFailed."""
    data = read_file(path, MAX_PUBLIC)
    if b"PRIVATE KEY" in data:
        raise CommandFailed(f"{path} is a private key: give its .pub file, and let nobody else have this one.")
    try:
        found = msgspec.json.decode(data, type=dict[str, Any])
        key = check_id(Key.from_dict(str(found["keyid"]), dict(found["key"])))
        uri = found.get("uri")
        return PublicKey(check_name(str(found["name"])), key, None if uri is None else str(uri))
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise CommandFailed(f"{path} is no public key file ({error}): make one with `framectl keys new`.") from None


def refuse_doubles(role: str, keys: Iterable[Key]) -> None:
    """Raises CommandFailed when one key would count twice towards a threshold, or two keys have one name."""
    seen: dict[str | bytes, Key] = {}
    for key in keys:
        for mark in (material(key), name_of(key) or key.keyid):
            if (other := seen.get(mark)) is not None and other is not key:
                raise CommandFailed(
                    f"The role {role} would have {label(other)} and {label(key)}: every key counts once and has a "
                    "name of its own."
                )
            seen[mark] = key
