"""The server's online keys: snapshot and timestamp of the image repository, and the director's. Ed25519, one PEM each.

They lie under ``FRAMEFLEET_VAR/online-keys`` (mode 0600) and never leave the machine. Whoever steals them can delay
frames and choose among authentic releases, but cannot make a frame run anything the offline keys have not signed.
"""

import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from securesystemslib.signer import CryptoSigner, SSlibKey

ROLES = ("snapshot", "timestamp", "director")


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
    """The online key of ``role`` (one of ROLES). Raises ImproperlyConfigured with one sentence when there is none."""
    return _load(folder() / f"{role}.pem")


def public_keys() -> dict[str, dict[str, Any]]:
    """Role -> ``{"keyid", "key"}``: what an offline root names."""
    return {role: {"keyid": online_key(role).public.keyid, "key": online_key(role).public.to_dict()} for role in ROLES}


def make_missing() -> list[str]:
    """Make the keys that do not exist yet; returns their roles. Existing ones are never touched."""
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    made = []
    for role in ROLES:
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        handle, aside = tempfile.mkstemp(dir=folder(), prefix=f".{role}-")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(pem)
                out.flush()
                os.fsync(out.fileno())
            # A link is exclusive: of two commands at once one makes the key. It appears whole, so a command that is
            # killed anywhere leaves no half key behind.
            os.link(aside, folder() / f"{role}.pem")
        except FileExistsError:
            continue
        finally:
            os.unlink(aside)
        made.append(role)
    return made


@lru_cache(maxsize=16)
def _load(path: Path) -> OnlineKey:
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise ImproperlyConfigured(f"The online key {path} is missing: run manage.py online_keys.") from None
    except (ValueError, TypeError) as error:
        raise ImproperlyConfigured(f"{path} is no private key in PEM: restore it from a backup ({error}).") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise ImproperlyConfigured(f"{path} is no Ed25519 key: restore it from a backup.")
    public = SSlibKey.from_crypto(private.public_key())
    return OnlineKey(private, public, CryptoSigner(private, public))
