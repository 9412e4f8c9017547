"""Where the installer's journal and the signed documents live: files on a frame, memory in a simulated one."""

import logging
import re
from contextlib import suppress
from pathlib import Path

import msgspec

from device_agent.installer.slots import Journal
from device_agent.storage.disk import disk
from device_agent.storage.files import make_folder, read_file, replace_file, sweep, sync_folder
from device_agent.storage.records import read_record
from protocol.chunks import sha256_hex

log = logging.getLogger(__name__)

MAX_JOURNAL_BYTES = 1024 * 1024
_NAME = re.compile(r"[a-z][a-z-]{0,31}")
_SUM = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n\}$')
"""How a journal ends: readers that know no checksum see one more field."""


class FileJournal:
    """``journal.json`` and, written after it, the same once more as ``journal.copy.json``.

    Each carries a checksum. One that is damaged counts for nothing; of two good ones, the newer. Only when none can be
    read are they kept aside, and the frame starts as a blank one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copy = path.with_suffix(".copy.json")

    def read(self) -> Journal | None:
        """The journal, None when there is none; changes nothing. Raises ValueError when it cannot be understood, and
        OSError."""
        found: list[Journal] = []
        errors: list[Exception] = []
        for path in (self._path, self._copy):
            try:
                found.append(unpack(read_file(path, MAX_JOURNAL_BYTES + 1)))
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as error:
                errors.append(error)
                log.error("The journal %s cannot be read: %s", path, error)
        if not found and errors:
            # Of a disk that fails for a moment no frame becomes a blank one: the agent starts again.
            raise next((error for error in errors if isinstance(error, OSError)), errors[0])
        return max(found, key=lambda journal: journal.sequence, default=None)

    def load(self) -> Journal | None:
        sweep(self._path.parent)
        try:
            journal = self.read()
        except ValueError as error:
            log.error("No journal can be read (%s): kept aside as *.unreadable, starting blank.", error)
            for path in (self._path, self._copy):
                with suppress(FileNotFoundError):
                    disk().rename(path, path.with_suffix(".unreadable"))
            sync_folder(self._path.parent)
            return None
        if journal is not None:
            self._mend(journal)
        return journal

    def save(self, journal: Journal) -> None:
        replace_file(self._path, pack(journal))
        self._save_copy(journal)

    def _mend(self, journal: Journal) -> None:
        """Make both say what was read, as durably as a save does: the agent may have been killed in the middle of one,
        or one of them is damaged."""
        try:
            self.save(journal)
        except OSError as error:
            log.error("The journal cannot be written: %s", error)

    def _save_copy(self, journal: Journal) -> None:
        try:
            replace_file(self._copy, pack(journal))
        except OSError as error:  # the first one is on disk, and that is what a save means
            log.error("The journal's copy cannot be written: %s", error)


def pack(journal: Journal) -> bytes:
    """The bytes of ``journal.json``: its fields, and the SHA-256 of everything before that."""
    body = msgspec.json.format(msgspec.json.encode(journal), indent=1).removesuffix(b"\n}")
    return body + b',\n "sha256": "' + sha256_hex(body).encode() + b'"\n}'


def unpack(data: bytes) -> Journal:
    """Also of an agent that wrote no checksum. Raises ValueError."""
    if len(data) > MAX_JOURNAL_BYTES:
        raise ValueError("too large")
    end = _SUM.search(data)
    if end is not None and sha256_hex(data[: end.start()]).encode() != end[1]:
        raise ValueError("its checksum is wrong")
    return read_record(data, Journal)


class MemoryJournal:
    """A journal as long as the process lives."""

    def __init__(self, journal: Journal | None = None) -> None:
        self._journal = journal

    def load(self) -> Journal | None:
        return self._journal

    def save(self, journal: Journal) -> None:
        self._journal = journal


class FileDocuments:
    """``trust/<name>.json``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_folder(folder)
        sweep(folder)

    def load(self, name: str) -> bytes | None:
        try:
            return read_file(self._path(name))
        except FileNotFoundError:
            return None

    def save(self, name: str, document: bytes) -> None:
        if self.load(name) != document:  # flash wears out
            replace_file(self._path(name), document)

    def _path(self, name: str) -> Path:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} cannot name a document")
        return self._folder / f"{name}.json"


class MemoryDocuments:
    """Documents as long as the process lives; frames that were born alike share the bytes."""

    def __init__(self, documents: dict[str, bytes]) -> None:
        self._documents = dict(documents)

    def load(self, name: str) -> bytes | None:
        return self._documents.get(name)

    def save(self, name: str, document: bytes) -> None:
        self._documents[name] = document
