"""A TUF repository over HTTP: which file is asked for next, and where what was accepted is kept."""

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from device_agent.storage.files import replace_file, sync_folder
from device_agent.trust.repository import ROOT, TOP, Needed, RepositoryTrust
from device_agent.trust.roots import RootChain
from device_agent.tuf_client.fetcher import HttpFetcher
from protocol.errors import Reason, Refused
from protocol.limits import MAX_ROOT_STEPS

MAX_LENGTHS = {ROOT: 512_000, "timestamp": 16_384, "snapshot": 2_000_000}
MAX_TARGETS_LENGTH = 5_000_000
"""Bytes in a document whose length nobody signed."""
_UNQUOTED = "/!$&'()*+,;=:@~"


class QuotedDocuments:
    """``<role>.json`` in a folder; a role's name may be any text, so it is quoted as in a URL."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, name: str) -> bytes | None:
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def save(self, name: str, document: bytes) -> None:
        replace_file(self._path(name), document)

    def _path(self, name: str) -> Path:
        return self._folder / f"{quote(name, '')}.json"


def initialise(folder: Path, root: bytes) -> None:
    """Trust ``root`` from now on. Raises Refused when it is no root, NoTrustAnchor when it does not hold by itself."""
    held = _Anchor(root)
    RootChain(held, ROOT)
    folder.mkdir(parents=True, exist_ok=True)
    QuotedDocuments(folder).save(ROOT, root)


class TufClient:
    """One refresh of the repository at ``metadata_url``, then any number of targets. Raises Refused, NoTrustAnchor."""

    def __init__(self, folder: Path, metadata_url: str, fetcher: HttpFetcher | None = None) -> None:
        self._trust = RepositoryTrust(QuotedDocuments(folder))
        self._url = metadata_url.rstrip("/")
        self._fetcher = fetcher if fetcher is not None else HttpFetcher()

    def refresh(self) -> None:
        """Root by root, then timestamp, snapshot and targets."""
        trust = self._trust
        for _ in range(MAX_ROOT_STEPS):
            document = self._document(f"{trust.roots.root.version + 1}.root", MAX_LENGTHS[ROOT])
            if document is None:
                break
            trust.roots.update(document)
        trust.begin()
        trust.take_timestamp(_there("timestamp", self._document("timestamp", MAX_LENGTHS["timestamp"])))
        needed = trust.needed_snapshot()
        if needed is not None:
            trust.take_snapshot(self._fetch(needed))
        needed = trust.needed_targets(TOP)
        if needed is not None:
            trust.take_targets(self._fetch(needed))

    def target(self, path: str) -> TargetFile:
        """What is signed about ``path``. Raises Refused(NOT_AVAILABLE) when nothing is."""
        search = self._trust.find(path)
        try:
            needed = next(search)
            while True:
                needed = search.send(self._fetch(needed))
        except StopIteration as found:
            if found.value is None:
                raise Refused(Reason.NOT_AVAILABLE, f"Nobody signed a target named {path}.") from None
            target: TargetFile = found.value
            return target

    def download(self, target: TargetFile, base_url: str, folder: Path) -> Path:
        """Bring the file into ``folder`` unless it lies there as signed; whole and durable, or not there at all."""
        path = folder / quote(target.path, "")
        if _is(path, target):
            return path
        directory, slash, name = target.path.rpartition("/")
        if self._trust.roots.root.consistent_snapshot:
            name = f"{next(iter(target.hashes.values()))}.{name}"
        url = f"{base_url.rstrip('/')}/{quote(f'{directory}{slash}{name}', _UNQUOTED)}"
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        try:
            _write(temporary, self._fetcher.pieces(url, target.length))
            if not _is(temporary, target):
                raise Refused(
                    Reason.TAMPERED_CHUNK, f"What the server gave for {target.path} is not the file that was signed."
                )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(folder)
        return path

    def _fetch(self, needed: Needed) -> bytes:
        role = quote(needed.role, "")
        name = f"{needed.version}.{role}" if self._trust.roots.root.consistent_snapshot else role
        limit = needed.length or MAX_LENGTHS.get(needed.role, MAX_TARGETS_LENGTH)
        return _there(needed.role, self._document(name, limit))

    def _document(self, name: str, limit: int) -> bytes | None:
        return self._fetcher.small(f"{self._url}/{name}.json", limit)


class _Anchor:
    """A root that is not stored yet."""

    def __init__(self, root: bytes) -> None:
        self._root = root

    def load(self, name: str) -> bytes | None:
        return self._root if name == ROOT else None

    def save(self, name: str, document: bytes) -> None:
        raise RuntimeError("nothing follows a root that is only looked at")


def _there(role: str, document: bytes | None) -> bytes:
    if document is None:
        raise Refused(Reason.NOT_AVAILABLE, f"The repository has no {role} document: publish it.")
    return document


def _is(path: Path, target: TargetFile) -> bool:
    try:
        with path.open("rb") as file:
            target.verify_length_and_hashes(file)
    except (OSError, LengthOrHashMismatchError):
        return False
    return True


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
