"""The offline folder: private keys, the newest signed documents, and the manifests of the releases signed so far.

``keys/<role>.pem``                Ed25519, PKCS#8 PEM, mode 0600
``metadata/<version>.root.json``   and ``<version>.director-root.json``: every version, the trust anchors of frames
``metadata/<role>.json``           targets, base, lora, agent, release: the newest version
``releases/<name>-<version>.json`` release manifests, byte for byte as they were signed

Several documents change together. They are written to ``metadata/pending.json`` first and then put in place, so an
interruption anywhere is completed by the next command that opens the folder.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Key, Metadata

from framectl import documents as tuf
from framectl.errors import CommandFailed
from protocol.limits import MAX_DOCUMENT, MAX_MESSAGE

_MAX_KEY = 4096
_MAX_PENDING = 8 * MAX_DOCUMENT


class OfflineFolder:
    """An opened offline folder; ``documents`` are verified from the roots down."""

    def __init__(self, path: Path, documents: tuf.Documents) -> None:
        self.path = path
        self.documents = documents

    @classmethod
    def create(cls, path: Path, online: Mapping[str, Key], now: datetime) -> "OfflineFolder":
        """Make keys and first documents in a new folder. Raises CommandFailed when something is there already."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise CommandFailed(f"{path} exists already and keys are never overwritten: choose a new folder.")
        private = {role: Ed25519PrivateKey.generate() for role in tuf.KEY_ROLES}
        signers = {role: CryptoSigner(key) for role, key in private.items()}
        documents = tuf.first_documents(signers, online, now)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Built aside and renamed: either the whole folder is there or nothing.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as holder:
            aside = Path(holder) / "folder"
            for name in ("", "keys", "metadata", "releases"):
                (aside / name).mkdir(mode=0o700)
            for role, key in private.items():
                pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                write_file(aside / "keys" / f"{role}.pem", pem, mode=0o600)
            folder = cls(aside, documents)
            for role in documents:
                write_file(folder.document_path(role), documents[role].to_bytes())
            os.rename(aside, path)
        return cls(path, documents)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["OfflineFolder"]:
        """Open and verify the folder, alone: a second command waits for nobody and is refused."""
        if not (path / "metadata").is_dir():
            raise CommandFailed(f"{path} is no offline folder: make one with `framectl keys create --out {path}`.")
        with (path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CommandFailed(f"Another command is using {path}: wait until it has ended.") from None
            folder = cls(path, {})
            folder._finish_interrupted()
            folder.documents = folder._load()
            tuf.verify(folder.documents)
            yield folder

    def document_path(self, role: str) -> Path:
        """Where the newest document of ``role`` is."""
        if role in tuf.ROOTS:
            return self.path / "metadata" / f"{self.documents[role].signed.version}.{role}.json"
        return self.path / "metadata" / f"{role}.json"

    def signer(self, role: str) -> CryptoSigner:
        """The private key of ``role``. Raises CommandFailed when it is missing or not an Ed25519 key."""
        path = self.path / "keys" / f"{role}.pem"
        try:
            key = load_pem_private_key(read_file(path, _MAX_KEY), password=None)
        except (ValueError, TypeError) as error:
            raise CommandFailed(f"{path} is not a private key in PEM: {error}.") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise CommandFailed(f"{path} is not an Ed25519 key.")
        return CryptoSigner(key)

    def release_path(self, name: str, version: str) -> Path:
        """Where the manifest of that release is kept."""
        return self.path / "releases" / f"{name}-{version}.json"

    def advance(self, changed: tuf.Documents, releases: Mapping[Path, bytes]) -> None:
        """Put newer documents and release manifests in place: all of them, if need be at the next opening."""
        files = {self.path / "metadata" / self._file_name(role, new): new.to_bytes() for role, new in changed.items()}
        files |= releases
        pending = {str(path.relative_to(self.path)): data.decode() for path, data in files.items()}
        write_file(self._pending, json.dumps(pending).encode())
        self._finish_interrupted()
        self.documents = self.documents | changed

    @property
    def _pending(self) -> Path:
        return self.path / "metadata" / "pending.json"

    def _finish_interrupted(self) -> None:
        if not self._pending.exists():
            return
        for name, text in json.loads(read_file(self._pending, _MAX_PENDING)).items():
            write_file(self.path / name, text.encode())
        self._pending.unlink()

    def _load(self) -> tuf.Documents:
        found = {role: self._newest_root(role) for role in tuf.ROOTS}
        for role in tuf.TARGETS_ROLES:
            path = self.path / "metadata" / f"{role}.json"
            found[role] = tuf.parse(role, read_file(path, MAX_DOCUMENT))
        return found

    def _newest_root(self, role: str) -> Metadata[Any]:
        suffix = f".{role}.json"
        names = [path.name.removesuffix(suffix) for path in (self.path / "metadata").glob(f"*{suffix}")]
        versions = [int(name) for name in names if name.isdigit()]
        if not versions:
            raise CommandFailed(f"{self.path} holds no {role} document: restore the folder from its backup.")
        path = self.path / "metadata" / f"{max(versions)}{suffix}"
        return tuf.parse(role, read_file(path, MAX_DOCUMENT))

    @staticmethod
    def _file_name(role: str, document: Metadata[Any]) -> str:
        return f"{document.signed.version}.{role}.json" if role in tuf.ROOTS else f"{role}.json"


def read_file(path: Path, limit: int = MAX_MESSAGE) -> bytes:
    """A small file, never more than ``limit`` bytes. Raises CommandFailed."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(data) > limit:
        raise CommandFailed(f"{path} has more than the {limit} bytes allowed here.")
    return data


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file atomically and durably. Raises CommandFailed."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror or error}.") from None
