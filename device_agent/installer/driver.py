"""Carries out what the installer's machine asks for."""

import logging
from collections.abc import Callable

from device_agent.failures import is_full
from device_agent.installer.events import Collect, Event, Note, Report, Restarted, Save
from device_agent.installer.machine import step
from device_agent.installer.slots import Journal
from device_agent.ports import JournalPort
from device_agent.telemetry import random_id
from protocol.messages import Failure

log = logging.getLogger(__name__)

_NEEDS_WHAT_WAS_FETCHED = ("verifying", "staged")
"""States whose files no saved slot names yet: thrown away for room, they would make the release look damaged."""


class Installer:
    """The journal and the effects of its steps.

    ``report`` publishes what the journal now says, ``note`` records a refusal, ``collect`` tidies the store.
    """

    def __init__(
        self,
        port: JournalPort,
        *,
        report: Callable[[], None],
        note: Callable[[Failure], None],
        collect: Callable[[], None],
    ) -> None:
        self._port = port
        self._report = report
        self._note = note
        self._collect = collect
        self._in_doubt: frozenset[str] = frozenset()
        stored = port.load()
        self.journal = stored if stored is not None else Journal(journal_id=random_id())
        if stored is None:
            port.save(self.journal)

    def restarted(self) -> None:
        """Say once, at the start, that the agent was away. A disk that cannot take that keeps no frame from playing."""
        try:
            self.apply(Restarted())
        except OSError as error:
            log.error("The journal cannot be saved: %s", error)
            self.journal, _ = step(self.journal, Restarted())

    def apply(self, event: Event) -> Journal:
        """One step: saved first, then its other effects. Raises OSError when it cannot be saved; then nothing moved."""
        journal, effects = step(self.journal, event)
        for effect in effects:
            match effect:
                case Save():
                    self._save(journal)
                    self.journal = journal
                case Report():
                    log.info("%s -> %s", type(event).__name__, journal.state)
                    self._report()
                case Note(failure):
                    log.warning("Refused (%s): %s", failure.reason.value, failure.detail)
                    self._note(failure)
                case Collect():
                    self._collect()
        return self.journal

    def files(self) -> frozenset[str]:
        """Hashes of everything that the journal on the disk may name: one whose save failed may be there all the
        same."""
        return self.journal.files() | self._in_doubt

    def _save(self, journal: Journal) -> None:
        self._in_doubt |= journal.files()
        self._save_or_make_room(journal)
        self._in_doubt = frozenset()

    def _save_or_make_room(self, journal: Journal) -> None:
        try:
            self._port.save(journal)
        except OSError as error:
            if not is_full(error) or journal.state in _NEEDS_WHAT_WAS_FETCHED:
                raise
            # What is being fetched may be what fills the disk, and it can be fetched again.
            self._collect()
            self._port.save(journal)
