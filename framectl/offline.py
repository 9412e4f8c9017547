"""The offline folder: private keys, the newest signed documents, and the manifests of the releases signed so far.

``keys/*.pem``                     private keys, PKCS#8 PEM, mode 0600; none where people keep their own
``metadata/<version>.root.json``   and ``<version>.director-root.json``: every version, the trust anchors of frames
``metadata/<role>.json``           targets, base, lora, agent, release: the newest version
``metadata/proposed.json``         documents that still collect signatures (``framectl.proposals``)
``releases/<name>-<version>.json`` release manifests, byte for byte as they were signed

Several documents change together. They are written to ``metadata/pending.json`` first and then put in place, so an
interruption anywhere is completed by the next command that opens the folder.
"""

import base64
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Key, Signer
from tuf.api.metadata import Metadata

from framectl import documents as tuf
from framectl import signers
from framectl.errors import CommandFailed
from framectl.files import read_file, write_file
from framectl.proposals import OpenRelease, Proposal, add_signatures, missing
from framectl.publickeys import with_name
from protocol.limits import MAX_DOCUMENT

_MAX_PENDING = 16 * MAX_DOCUMENT
_MAX_KEYS = 64
_OURS = re.compile(r"metadata/(?:[0-9]{1,9}\.)?[a-z-]{1,32}\.json|releases/[^/\0]{1,200}\.json")
"""What may be put in place, relative to the folder."""


class OfflineFolder:
    """An opened offline folder. ``documents`` are verified from the roots down; there are none before the first
    ceremony is complete. ``proposal`` is what still collects signatures."""

    def __init__(self, path: Path, documents: tuf.Documents, proposal: Proposal | None = None) -> None:
        self.path = path
        self.documents = documents
        self.proposal = proposal

    @classmethod
    def create(cls, path: Path, online: Mapping[str, Key], now: datetime) -> "OfflineFolder":
        """Make one key per role and the signed first documents in a new folder. Raises CommandFailed."""
        private = {role: Ed25519PrivateKey.generate() for role in tuf.KEY_ROLES}
        mine = {role: CryptoSigner(key) for role, key in private.items()}
        holders = {role: tuf.Holders((with_name(signer.public_key, role),)) for role, signer in mine.items()}
        proposed = tuf.first_documents(holders, online, now)
        add_signatures(proposed, {}, list(mine.values()))
        pems = {f"keys/{role}.pem": signers.pem_of(key, None) for role, key in private.items()}
        return cls._build(path, cls(path, proposed), pems)

    @classmethod
    def begin(cls, path: Path, proposal: Proposal) -> "OfflineFolder":
        """A new folder without private keys, whose first documents still collect signatures. Raises CommandFailed."""
        return cls._build(path, cls(path, {}, proposal), {})

    @classmethod
    def _build(cls, path: Path, content: "OfflineFolder", pems: Mapping[str, bytes]) -> "OfflineFolder":
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise CommandFailed(f"{path} exists already and keys are never overwritten: choose a new folder.")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Built aside and renamed: either the whole folder is there or nothing.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as holder:
            aside = Path(holder) / "folder"
            for name in ("", "keys", "metadata", "releases"):
                (aside / name).mkdir(mode=0o700)
            for name, pem in pems.items():
                write_file(aside / name, pem, mode=0o600)
            folder = cls(aside, content.documents)
            for role in folder.documents:
                write_file(folder.document_path(role), folder.documents[role].to_bytes())
            if content.proposal is not None:
                folder.propose(content.proposal)
            os.rename(aside, path)
        return cls(path, content.documents, content.proposal)

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, complete: bool = True) -> Iterator["OfflineFolder"]:
        """Open and verify the folder, alone: a second command waits for nobody and is refused.

        ``complete``: a folder whose first documents still lack signatures is refused too.
        """
        if not (path / "metadata").is_dir():
            raise CommandFailed(f"{path} is no offline folder: make one with `framectl keys create --out {path}`.")
        with (path / ".lock").open("a") as lock:  # never emptied: it may be a link that somebody put there
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CommandFailed(f"Another command is using {path}: wait until it has ended.") from None
            folder = cls(path, {})
            folder._finish_interrupted()
            folder.proposal = folder._load_proposal()
            if folder.proposal is None or (path / "metadata" / "targets.json").exists():
                folder.documents = folder._load()
                tuf.verify(folder.documents)
                folder._drop_outdated()
            elif complete:
                first = missing(folder.proposal.documents, {})[0]
                raise CommandFailed(f"{first}; sign it with `framectl keys sign {path}` before anything else.")
            yield folder

    def document_path(self, role: str) -> Path:
        """Where the newest document of ``role`` is."""
        if role in tuf.ROOTS:
            return self.path / "metadata" / f"{self.documents[role].signed.version}.{role}.json"
        return self.path / "metadata" / f"{role}.json"

    def root_path(self, role: str, version: int) -> Path:
        """Where that version of a root is, if this folder has seen it."""
        return self.path / "metadata" / f"{version}.{role}.json"

    def signers(self, given: Sequence[str], roles: Collection[str] = tuf.KEY_ROLES) -> list[Signer]:
        """The keys ``given`` as URIs, else those in the folder's ``keys/``; what is called after a role that is not
        among ``roles`` stays unread. Raises CommandFailed."""
        if given:
            return [signers.load(uri) for uri in given]
        others = set(tuf.KEY_ROLES).difference(roles)
        files = sorted(file for file in (self.path / "keys").glob("*.pem") if file.stem not in others)[:_MAX_KEYS]
        if not files:
            raise CommandFailed(f"{self.path} holds no private keys: say with --key which one to sign with.")
        return [signers.load(f"file:{file}") for file in files]

    def release_path(self, name: str, version: str) -> Path:
        """Where the manifest of that release is kept."""
        return self.path / "releases" / f"{name}-{version}.json"

    def advance(self, changed: tuf.Documents, releases: Mapping[Path, bytes]) -> None:
        """Put newer documents and release manifests in place: all of them, if need be at the next opening."""
        files = {self.path / "metadata" / self._file_name(role, new): new.to_bytes() for role, new in changed.items()}
        files |= releases
        pending = {str(path.relative_to(self.path)): data.decode() for path, data in files.items()}
        self._refuse_elsewhere(pending)
        write_file(self._pending, json.dumps(pending).encode())
        self._finish_interrupted()
        self.documents = self.documents | changed
        self._drop_outdated()

    def propose(self, proposal: Proposal) -> None:
        """Keep what still lacks signatures; the folder's documents stay as they are."""
        release = proposal.release
        content = {
            "documents": {role: msgspec.Raw(one.to_bytes()) for role, one in proposal.documents.items()},
            "release": None
            if release is None
            else {
                "name": release.name,
                "version": release.version,
                "manifest": base64.b64encode(release.manifest).decode(),
            },
        }
        write_file(self._proposed, msgspec.json.encode(content))
        self.proposal = proposal

    def settle(self) -> bool:
        """Make the proposal the folder's newest documents once nothing is missing. Returns whether it was."""
        if self.proposal is None or missing(self.proposal.documents, self.documents):
            return False
        release = self.proposal.release
        manifests = {} if release is None else {self.release_path(release.name, release.version): release.manifest}
        self.advance(self.proposal.documents, manifests)
        return True

    def drop(self) -> None:
        """Give the proposal up; signatures that it had collected are gone."""
        self._proposed.unlink(missing_ok=True)
        self.proposal = None

    def refuse_open_proposal(self) -> None:
        """Only one proposal at a time: the next would have the same versions. Raises CommandFailed."""
        if self.proposal is None:
            return
        lacks = "; ".join(str(need) for need in missing(self.proposal.documents, self.documents))
        if (release := self.proposal.release) is not None:
            how = f"complete {release.name} {release.version} with `framectl release sign --add`"
        else:
            how = f"complete the new keys with `framectl keys sign {self.path}`"
        raise CommandFailed(f"{lacks}; {how}, or give it up with `framectl keys drop {self.path}`.")

    @property
    def _pending(self) -> Path:
        return self.path / "metadata" / "pending.json"

    @property
    def _proposed(self) -> Path:
        return self.path / "metadata" / "proposed.json"

    def _finish_interrupted(self) -> None:
        if not self._pending.exists():
            return
        try:
            pending = msgspec.json.decode(read_file(self._pending, _MAX_PENDING), type=dict[str, str])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CommandFailed(
                f"{self._pending} cannot be read ({error}): bring it from another copy of the folder."
            ) from None
        self._refuse_elsewhere(pending)
        for name, text in pending.items():
            write_file(self.path / name, text.encode())
        self._pending.unlink()

    @staticmethod
    def _refuse_elsewhere(names: Iterable[str]) -> None:
        """The folder goes from hand to hand: what lies in it must not write outside of it. Raises CommandFailed."""
        for name in names:
            if _OURS.fullmatch(name) is None:
                raise CommandFailed(f"The folder wants to write {name[:200]!r}: ask who carried it, and use a copy.")

    def _drop_outdated(self) -> None:
        """A proposal has served once newer documents are here: those it became, or others from the server."""
        if self.proposal is not None and any(
            role in self.documents and new.signed.version <= self.documents[role].signed.version
            for role, new in self.proposal.documents.items()
        ):
            self.drop()

    def _load(self) -> tuf.Documents:
        found = {role: self._newest_root(role) for role in tuf.ROOTS}
        for role in tuf.TARGETS_ROLES:
            path = self.path / "metadata" / f"{role}.json"
            found[role] = tuf.parse(role, read_file(path, MAX_DOCUMENT))
        return found

    def _load_proposal(self) -> Proposal | None:
        if not self._proposed.exists():
            return None
        try:
            found = msgspec.json.decode(read_file(self._proposed, _MAX_PENDING), type=dict[str, Any])
            given, release = dict(found["documents"]), found["release"]
            documents = {role: tuf.parse(role, msgspec.json.encode(given[role])) for role in tuf.ALL if role in given}
            if release is None:
                return Proposal(documents)
            manifest = base64.b64decode(release["manifest"], validate=True)
            return Proposal(documents, OpenRelease(str(release["name"]), str(release["version"]), manifest))
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise CommandFailed(
                f"{self._proposed} cannot be read ({error}): bring it from another copy of the folder, or delete it."
            ) from None

    def _newest_root(self, role: str) -> Metadata[Any]:
        suffix = f".{role}.json"
        names = [path.name.removesuffix(suffix) for path in (self.path / "metadata").glob(f"*{suffix}")]
        versions = [int(name) for name in names if name.isdigit()]
        if not versions:
            raise CommandFailed(f"{self.path} holds no {role} document: restore the folder from its backup.")
        path = self.root_path(role, max(versions))
        return tuf.parse(role, read_file(path, MAX_DOCUMENT))

    @staticmethod
    def _file_name(role: str, document: Metadata[Any]) -> str:
        return f"{document.signed.version}.{role}.json" if role in tuf.ROOTS else f"{role}.json"
