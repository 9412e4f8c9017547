"""Where the installer's journal and the signed documents live: files on a frame, memory in a simulated one."""

import logging
import re
from pathlib import Path

import msgspec

from device_agent.installer.slots import Journal
from device_agent.storage.files import replace_file

log = logging.getLogger(__name__)

MAX_JOURNAL_BYTES = 1024 * 1024
_NAME = re.compile(r"[a-z][a-z-]{0,31}")


class FileJournal:
    """``journal.json``. One that cannot be read is kept aside and the frame starts as a blank one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Journal | None:
        """The journal, None when there is none; changes nothing. Raises ValueError when it cannot be understood."""
        try:
            if self._path.stat().st_size > MAX_JOURNAL_BYTES:
                raise ValueError("too large")
            return msgspec.json.decode(self._path.read_bytes(), type=Journal)
        except FileNotFoundError:
            return None

    def load(self) -> Journal | None:
        try:
            return self.read()
        except ValueError as error:
            aside = self._path.with_suffix(".unreadable")
            log.error("The journal %s cannot be read (%s); kept as %s, starting blank.", self._path, error, aside.name)
            self._path.replace(aside)
            return None

    def save(self, journal: Journal) -> None:
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(journal), indent=1))


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
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def load(self, name: str) -> bytes | None:
        try:
            return self._path(name).read_bytes()
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
