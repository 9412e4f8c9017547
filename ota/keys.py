"""The server's online keys: snapshot and timestamp of the image repository, and the director's. Ed25519, one PEM each.

They lie under ``FRAMEFLEET_VAR/online-keys`` (mode 0600) and never leave the machine. Whoever steals them can delay
frames and choose among authentic releases, but cannot make a frame run anything the offline keys have not signed.

A role's first key is ``<role>.pem``; ``manage.py online_keys --rotate`` puts the next one beside it (``<role>.2.pem``,
...). The server signs with the one that the newest accepted root names. So accepting a root is what switches keys, in
the transaction that accepts it, and no file changes then.
"""

import os
import re
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from securesystemslib.signer import CryptoSigner, SSlibKey

from ota.models import TufDocument
from protocol.repository import DIRECTOR_ROOT

ROLES = ("snapshot", "timestamp", "director")
NAMED_BY = {
    "snapshot": ("root", "snapshot"),
    "timestamp": ("root", "timestamp"),
    "director": (DIRECTOR_ROOT, "targets"),
}
"""Online key -> the document that names it, and the role there."""


@dataclass(frozen=True)
class OnlineKey:
    """One online key: ``private`` signs envelopes, ``signer`` signs TUF documents, ``public`` is the TUF key."""

    private: Ed25519PrivateKey
    public: SSlibKey
    signer: CryptoSigner


def folder() -> Path:
    """Where the keys lie."""
    return Path(settings.FRAMEFLEET_VAR) / "online-keys"


def online_key(role: str) -> OnlineKey:
    """The key that the server signs with for ``role`` (one of ROLES): the one that the newest accepted root names, or
    the newest of all before there is a root. Raises ImproperlyConfigured with one sentence when it is not here."""
    held = held_keys(role)
    document, name = NAMED_BY[role]
    named = _named_keyids(document, name)
    if named is None:
        return held[-1]
    return chosen(role, held, named)


def online_key_or_none(role: str) -> OnlineKey | None:
    """The same, None when it is not here: a lost key is no reason to refuse the root that replaces it."""
    try:
        return online_key(role)
    except ImproperlyConfigured:
        return None


def chosen(role: str, held: Sequence[OnlineKey], named: Collection[str]) -> OnlineKey:
    """The one of ``held`` that a root names for ``role``. Raises ImproperlyConfigured."""
    for key in reversed(held):
        if key.public.keyid in named:
            return key
    raise ImproperlyConfigured(
        f"The server has no {role} key that its root names ({', '.join(keyid[:8] for keyid in named)}): restore "
        f"{folder()} from a backup, or make a new key (manage.py online_keys --rotate {role}) and have a root signed "
        "that names it."
    )


def held_keys(role: str) -> list[OnlineKey]:
    """All keys of ``role`` that are here, oldest first; at least one. Raises ImproperlyConfigured."""
    found = [_read(path) for _, path in _files(role)]
    return found or [_read(folder() / f"{role}.pem")]


def public_keys() -> dict[str, dict[str, Any]]:
    """Role -> ``{"keyid", "key"}``: the newest keys, which the next offline root is to name."""
    newest = {role: held_keys(role)[-1].public for role in ROLES}
    return {role: {"keyid": public.keyid, "key": public.to_dict()} for role, public in newest.items()}


def _named_keyids(document: str, role: str) -> list[str] | None:
    newest = TufDocument.objects.filter(role=document).order_by("-version").values_list("document", flat=True).first()
    if newest is None:
        return None
    return list(msgspec.json.decode(bytes(newest))["signed"]["roles"][role]["keyids"])


def _files(role: str) -> list[tuple[int, Path]]:
    """The key files of ``role`` that are here, with their numbers, in the order in which they were made."""
    named = re.compile(rf"{role}(?:\.(\d{{1,6}}))?\.pem")
    found = [
        (int(match[1] or 1), path) for path in folder().glob(f"{role}*.pem") if (match := named.fullmatch(path.name))
    ]
    return sorted(found)


def make_missing() -> list[str]:
    """Make the keys that do not exist yet; returns their roles. Existing ones are never touched."""
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    return [role for role in ROLES if not _files(role) and _make(folder() / f"{role}.pem")]


def rotate(role: str) -> OnlineKey:
    """Make the next key of ``role`` beside those that are here; called again before a root names it, it stays that one.

    Raises ImproperlyConfigured when there is no first key yet.
    """
    held = held_keys(role)
    document, name = NAMED_BY[role]
    named = _named_keyids(document, name)
    if named is None or held[-1].public.keyid in named:
        path = folder() / f"{role}.{_files(role)[-1][0] + 1}.pem"
        _make(path)
        return _read(path)
    return held[-1]


def _make(path: Path) -> bool:
    """Make a key in this file unless it is there. Returns whether it was made."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(pem)
            out.flush()
            os.fsync(out.fileno())
        # A link is exclusive: of two commands at once one makes the key. It appears whole, so a command that is
        # killed anywhere leaves no half key behind.
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(aside)
    return True


def _read(path: Path) -> OnlineKey:
    """The key in this file, read again when it is another file than before."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ImproperlyConfigured(f"The online key {path} is missing: run manage.py online_keys.") from None
    return _load(path, (status.st_ino, status.st_mtime_ns))


@lru_cache(maxsize=64)
def _load(path: Path, _which: tuple[int, int]) -> OnlineKey:
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise ImproperlyConfigured(f"{path} is no private key in PEM: restore it from a backup ({error}).") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise ImproperlyConfigured(f"{path} is no Ed25519 key: restore it from a backup.")
    public = SSlibKey.from_crypto(private.public_key())
    return OnlineKey(private, public, CryptoSigner(private, public))
