"""The frame's key: made on the frame, and it never leaves it.

``KeyKeeper`` is what a board with a secure element or a TEE implements; ``FileKeys`` keeps keys in files that only the
agent's user reads. A key is named by a path either way: a keeper in hardware leaves a note with its handle there.
"""

import os
import ssl
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from device_agent.settings.kinds import ConfigError
from device_agent.storage.disk import disk
from device_agent.storage.files import opened, read_file, remove, sync_folder, write_all

MAX_FILE = 16 * 1024


class FrameKey(Protocol):
    """One private key, P-256."""

    @property
    def public(self) -> bytes:
        """The public key: SubjectPublicKeyInfo, DER."""

    def request(self, name: str) -> str:
        """A certificate request (PEM) in that name, signed with this key."""

    def sign(self, data: bytes) -> bytes:
        """ECDSA with SHA-256, DER."""

    def present(self, context: ssl.SSLContext, certificate: Path) -> None:
        """Have connections of ``context`` prove that they hold this key. Raises OSError."""


class KeyKeeper(Protocol):
    """Where keys are made and kept."""

    def make(self, path: Path) -> FrameKey:
        """A new key under ``path``, durable when this returns; what an earlier cut left half done is replaced.
        Raises FileExistsError when there is one already, and OSError."""

    def open(self, path: Path) -> FrameKey:
        """The key under ``path``. Raises ConfigError when it is none, FileNotFoundError when there is none."""

    def move(self, path: Path, to: Path) -> None:
        """Name it ``to``, in the same folder, from now on; all or nothing, durable when this returns."""

    def forget(self, path: Path) -> None:
        """Destroy the key, if it is there."""


class FileKeys:
    """PKCS#8 files of mode 0600."""

    def make(self, path: Path) -> FrameKey:
        if disk().size(path) is not None:
            raise FileExistsError(f"There is a key already: {path}")
        key = ec.generate_private_key(ec.SECP256R1())
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        fresh = path.with_name(f".{path.name}.new")
        remove(fresh)
        with opened(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600) as handle:
            write_all(handle, text, 0)
            disk().sync(handle)
        disk().rename(fresh, path)
        sync_folder(path.parent)
        return FileKey(path, key)

    def open(self, path: Path) -> FrameKey:
        try:
            key = serialization.load_pem_private_key(read_file(path, MAX_FILE), None)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"The frame's key {path} cannot be read ({error}): enrol the frame again.") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"The frame's key {path} is no EC key: enrol the frame again.")
        return FileKey(path, key)

    def move(self, path: Path, to: Path) -> None:
        disk().rename(path, to)
        sync_folder(to.parent)

    def forget(self, path: Path) -> None:
        remove(path)
        sync_folder(path.parent)


class FileKey:
    """A key in a file."""

    def __init__(self, path: Path, key: ec.EllipticCurvePrivateKey) -> None:
        self._path = path
        self._key = key

    @property
    def public(self) -> bytes:
        return public_bytes(self._key.public_key())

    def request(self, name: str) -> str:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self._key, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def present(self, context: ssl.SSLContext, certificate: Path) -> None:
        context.load_cert_chain(certificate, self._path)


def public_bytes(key: object) -> bytes:
    """A public key of ``cryptography`` as SubjectPublicKeyInfo, DER."""
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
