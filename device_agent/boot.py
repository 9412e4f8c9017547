"""Which agent runs: the image's own, or the one that the playing release brought.

Theory of operation. Every start begins with the image's agent, which no update can touch. It reads the journal, and
where the slot that plays names an agent's file, it becomes that agent: the same process id, the same command line,
with the file (a zip of Python packages) first on the path. Before that it counts the start. The agent that was started
takes the count back once it has run for STEADY_S (on probation the backend must have answered it, too) or was told to
stop. One that does not get so far MAX_STARTS times, or whose file is damaged, is given up: its release ends in the
journal like any other that fails on probation, and the agent of the release committed before runs, in the end the
image's. Counts hold for one DesiredState: whoever sends the release again asks for it to be tried again.

On probation the process also gets an alarm clock, which survives the change and which the new agent turns off when it
is committed: one that runs on without getting anywhere is ended by the kernel, whatever its code does.

An agent that finds that another one should run ends in order and becomes the image's agent again, which chooses anew.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec

import device_agent
from device_agent.environment import command, environment_for
from device_agent.folder import AgentFolder
from device_agent.installer.slots import Installed, Journal, file_of
from device_agent.storage.files import read_file, replace_file
from device_agent.storage.journal import FileJournal
from device_agent.storage.records import read_record
from device_agent.storage.store import FileStore
from protocol.errors import Refused
from protocol.messages import Sha256

log = logging.getLogger(__name__)

MAX_STARTS = 3
STEADY_S = 60.0
AGAIN_S = 600.0
"""Wait after a disk that would not let another agent take over."""
OVERTIME_S = 3_600
"""How much longer than probation itself an agent may be on it without a new start."""
MAX_RECORD = 4096
ENDS = (signal.SIGTERM, signal.SIGINT)
"""Signals that ask an agent to stop; held back while one agent becomes another."""

Count = Annotated[int, msgspec.Meta(ge=0)]


class Starts(msgspec.Struct, frozen=True, kw_only=True):
    """``boot.json``: under DesiredState ``version``, the starts of each agent (by its file's SHA-256) that it has not
    taken back."""

    version: Count = 0
    starts: dict[Sha256, Count] = {}

    def of(self, agent: Installed, journal: Journal) -> int:
        return self.starts.get(agent.sha256, 0) if self.version == journal.desired_version else 0

    def changed(self, sha256: str, count: int, journal: Journal) -> "Starts":
        """With another count for one agent; those that nobody names any more go, and so do all of an older version."""
        known = {agent.sha256 for agent in agents_of(journal) if agent is not None}
        kept = self.starts if self.version == journal.desired_version else {}
        counts = {name: number for name, number in (kept | {sha256: count}).items() if number and name in known}
        return Starts(version=journal.desired_version, starts=counts)


def agents_of(journal: Journal) -> tuple[Installed | None, ...]:
    """Whose agents may run, best first: the playing release's, the committed one's, the image's (None)."""
    return (*(slot.agent for slot in (journal.playing, journal.committed) if slot is not None), None)


def choose(journal: Journal, starts: Starts) -> Installed | None:
    """The agent to run; None for the image's own."""
    for agent in agents_of(journal):
        if agent is None or starts.of(agent, journal) < MAX_STARTS:
            return agent
    return None


def running_agent() -> str | None:
    """SHA-256 of the file that this very code came from; None for the image's."""
    spec = device_agent.__spec__
    archive = getattr(spec.loader if spec is not None else None, "archive", None)
    return Path(archive).name if archive is not None else None


@dataclass(slots=True)
class Boot:
    """The starts of one frame's agents, and the way from one agent to the other.

    ``environment`` and ``arguments`` are those that the process was started with.
    """

    folder: AgentFolder
    environment: Mapping[str, str]
    arguments: list[str]
    running: str | None = field(default_factory=running_agent)
    _starts: Starts = field(init=False)
    _wait_until: float = field(default=-1.0, init=False)
    """The disk would not let something be read or written (monotonic seconds)."""

    def __post_init__(self) -> None:
        self._starts = self._read()

    def begin(self, probation_s: float) -> None:
        """In the image's agent: become the one that should run, if that is another; returns when it is this one.
        ``probation_s`` is the healthy time after which a release is committed."""
        if self.running is not None:
            return
        signal.alarm(0)
        store = FileStore(self.folder.path)
        try:
            journal = FileJournal(self.folder.journal).read()
            while journal is not None and (agent := choose(journal, self._starts)) is not None:
                whole = _is_whole(store, agent)
                count = self._starts.of(agent, journal) + 1 if whole else MAX_STARTS
                # First the count: without it, an agent that does not stand would be started for ever.
                self._write(self._starts.changed(agent.sha256, count, journal))
                if whole:
                    log.info("Agent %s of the playing release takes over.", agent.version)
                    if journal.probation is not None:
                        signal.alarm(int(probation_s) + OVERTIME_S)
                    self._become(store.path(agent.sha256))
        except (OSError, ValueError) as error:
            log.error("The image's agent runs, as the disk lets no other one take over: %s", error)
            self._wait_until = time.monotonic() + AGAIN_S

    def wants_another(self, journal: Journal) -> bool:
        """Whether the agent that should run is another one than this."""
        wanted = journal.agent
        if time.monotonic() < self._wait_until or self._is_this(wanted):
            return False
        return wanted is None or self._starts.of(wanted, journal) < MAX_STARTS

    def not_started(self, journal: Journal) -> str | None:
        """Why the agent that should run does not, in a sentence; None when it does, or will."""
        wanted = journal.agent
        if wanted is None or self._is_this(wanted) or self._starts.of(wanted, journal) < MAX_STARTS:
            return None
        return f"Agent {wanted.version}, which the release brought, did not stay up {MAX_STARTS} times or is damaged."

    def environment_of(self, agent: Installed | None, store: FileStore) -> dict[str, str] | None:
        """What a process needs to run ``agent``'s code, None when this process has that already. Raises Refused when
        its file is damaged."""
        if self._is_this(agent):
            return None
        if agent is None:
            return environment_for(None, os.environ)
        store.check(agent.sha256, agent.length)
        return environment_for(store.path(agent.sha256), os.environ)

    def goes_on(self, journal: Journal, ran_s: float, *, answered: bool) -> None:
        """Said by the agent in every turn of its loop: it has run for so long, and the backend has answered it."""
        if journal.probation is None:
            signal.alarm(0)
        if ran_s >= STEADY_S and (journal.probation is None or answered) and time.monotonic() >= self._wait_until:
            self.take_back(journal)

    def take_back(self, journal: Journal) -> None:
        """This start is no longer held against the agent that runs."""
        if self.running is None or not self._starts.starts.get(self.running):
            return
        try:
            self._write(self._starts.changed(self.running, 0, journal))
        except OSError as error:
            log.error("The count of starts cannot be written: %s", error)
            self._wait_until = time.monotonic() + AGAIN_S

    def hand_over(self) -> NoReturn:
        """End this agent, which has put everything in order: the image's begins anew in its place."""
        self._become(None)

    def _is_this(self, agent: Installed | None) -> bool:
        return file_of(agent) == self.running

    def _become(self, agent: Path | None) -> NoReturn:
        sys.stdout.flush()
        sys.stderr.flush()
        environment = environment_for(agent, self.environment)
        os.execve(sys.executable, command(self.arguments), environment)  # noqa: S606  no shell is wanted

    def _read(self) -> Starts:
        try:
            return read_record(read_file(self._path, MAX_RECORD), Starts)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.error("%s cannot be read (%s): every agent has its starts again.", self._path, error)
        return Starts()

    def _write(self, starts: Starts) -> None:
        if starts != self._starts:
            replace_file(self._path, msgspec.json.encode(starts))
            self._starts = starts

    @property
    def _path(self) -> Path:
        return self.folder.path / "boot.json"


def _is_whole(store: FileStore, agent: Installed) -> bool:
    """Raises OSError for a disk that cannot say."""
    try:
        store.check(agent.sha256, agent.length)
    except Refused as refused:
        log.error("The agent's file %s cannot be used: %s", agent.path, refused.detail)
        return False
    return True
