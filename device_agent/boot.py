"""Which agent runs: the image's own, or the one that the playing release brought.

Theory of operation. Every start begins with the image's agent, which no update can touch. It reads the journal, and
where the slot that plays names an agent's file, it becomes that agent: the same process id, the same command line,
with the file (a zip of Python packages) first on the path. Before that it counts the start; the agent that was started
takes the count back once it has stood for STEADY_S or was stopped in order. One that does not stand MAX_STARTS times,
or whose file is damaged, is given up: its release ends in the journal like any other that fails on probation, and the
agent of the release committed before runs, in the end the image's.

An agent that finds that another one should run ends in order and becomes the image's agent again, which chooses anew.
"""

import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec

import device_agent
from device_agent.folder import AgentFolder
from device_agent.installer.slots import Installed, Journal, Slot
from device_agent.storage.files import read_file, replace_file
from device_agent.storage.journal import FileJournal
from device_agent.storage.records import read_record
from device_agent.storage.store import FileStore
from protocol.errors import Refused
from protocol.messages import Sha256

log = logging.getLogger(__name__)

MAX_STARTS = 3
STEADY_S = 60.0
"""An agent that crashes later than this is started again and again; on probation its release is counted as restarts."""
AGAIN_S = 600.0
"""Wait after a disk that would not let another agent take over."""
MAX_RECORD = 4096
IMAGE_PATH = "FRAMEFLEET_IMAGE_PYTHONPATH"
"""Variable in which the image's own PYTHONPATH survives while another agent runs."""

Environment = Mapping[str, str]


class Starts(msgspec.Struct, frozen=True, kw_only=True):
    """``boot.json``: starts of each agent that no steady run followed, by the SHA-256 of its file."""

    starts: dict[Sha256, Annotated[int, msgspec.Meta(ge=0)]] = {}


def agents_of(journal: Journal) -> tuple[Installed | None, ...]:
    """Whose agents may run, best first: the playing release's, the committed one's, the image's (None)."""
    return (*(slot.agent for slot in _running(journal) if slot is not None), None)


def choose(journal: Journal, starts: Mapping[str, int]) -> Installed | None:
    """The agent to run; None for the image's own."""
    for agent in agents_of(journal):
        if agent is None or starts.get(agent.sha256, 0) < MAX_STARTS:
            return agent
    return None


def _running(journal: Journal) -> tuple[Slot | None, Slot | None]:
    return journal.playing, journal.committed


def running_agent() -> str | None:
    """SHA-256 of the file that this very code came from; None for the image's."""
    spec = device_agent.__spec__
    archive = getattr(spec.loader if spec is not None else None, "archive", None)
    return Path(archive).name if archive is not None else None


def command(arguments: list[str]) -> list[str]:
    """The command line that runs whichever agent is first on the path; the working directory is not on it."""
    return [sys.executable, "-P", "-m", "device_agent", *arguments]


def environment_for(agent: Path | None, base: Environment) -> dict[str, str]:
    """What a process needs to run ``agent`` (None: the image's), given the environment of this one."""
    changed = dict(base)
    image = changed.pop(IMAGE_PATH, None) if IMAGE_PATH in changed else changed.get("PYTHONPATH")
    changed.pop("PYTHONPATH", None)
    if agent is not None:
        changed[IMAGE_PATH] = image or ""
        changed["PYTHONPATH"] = os.pathsep.join(filter(None, (str(agent), image)))
    elif image:
        changed["PYTHONPATH"] = image
    return changed


@dataclass(slots=True)
class Boot:
    """The starts of one frame's agents, and the way from one agent to the other.

    ``environment`` and ``arguments`` are those that the process was started with.
    """

    folder: AgentFolder
    environment: Environment
    arguments: list[str]
    running: str | None = field(default_factory=running_agent)
    starts: dict[str, int] = field(init=False)
    _stuck_until: float | None = field(default=None, init=False)
    """Something could not be read or written down at this start (monotonic seconds)."""

    def __post_init__(self) -> None:
        self.starts = self._read()

    def begin(self) -> None:
        """In the image's agent: become the one that should run, if that is another. Returns when it is this one."""
        if self.running is not None:
            return
        try:
            journal = FileJournal(self.folder.journal).read()
        except (OSError, ValueError) as error:
            log.error("Which agent should run cannot be read, so it is the image's: %s", error)
            self._stuck_until = time.monotonic() + AGAIN_S
            return
        store = FileStore(self.folder.path)
        while journal is not None and (agent := choose(journal, self.starts)) is not None:
            known = {one.sha256 for one in agents_of(journal) if one is not None}
            starts = {sha256: count for sha256, count in self.starts.items() if sha256 in known}
            whole = _is_whole(store, agent)
            starts[agent.sha256] = starts.get(agent.sha256, 0) + 1 if whole else MAX_STARTS
            if not self._write(starts):
                # Without a count, an agent that does not stand would be started for ever.
                self._stuck_until = time.monotonic() + AGAIN_S
                return
            if whole:
                log.info("Agent %s of the playing release takes over.", agent.version)
                self._become(store.path(agent.sha256))

    def wants_another(self, wanted: Installed | None) -> bool:
        """Whether the agent that should run is another one that has not been given up."""
        if self._stuck_until is not None and time.monotonic() < self._stuck_until:
            return False
        if wanted is None or wanted.sha256 == self.running:
            return wanted is None and self.running is not None
        return self.starts.get(wanted.sha256, 0) < MAX_STARTS

    def not_started(self, wanted: Installed | None) -> str | None:
        """Why ``wanted`` does not run, in a sentence; None when it does, or will."""
        if wanted is None or wanted.sha256 == self.running or self.starts.get(wanted.sha256, 0) < MAX_STARTS:
            return None
        return f"Agent {wanted.version}, which the release brought, did not stay up {MAX_STARTS} times or is damaged."

    def environment_of(self, agent: Installed | None, store: FileStore) -> dict[str, str] | None:
        """What a process needs to run ``agent``'s code, None when this process has that already."""
        sha256 = agent.sha256 if agent is not None else None
        if sha256 == self.running:
            return None
        return environment_for(store.path(sha256) if sha256 is not None else None, os.environ)

    def stood(self) -> None:
        """The agent that runs has stood long enough, or was stopped in order."""
        if self.running is not None and self.starts.get(self.running):
            self._write({sha256: count for sha256, count in self.starts.items() if sha256 != self.running})

    def hand_over(self) -> NoReturn:
        """End this agent, which has put everything in order: the image's begins anew in its place."""
        self._become(None)

    def _become(self, agent: Path | None) -> NoReturn:
        sys.stdout.flush()
        sys.stderr.flush()
        environment = environment_for(agent, self.environment)
        os.execve(sys.executable, command(self.arguments), environment)  # noqa: S606  no shell is wanted

    def _read(self) -> dict[str, int]:
        try:
            return dict(read_record(read_file(self._path, MAX_RECORD), Starts).starts)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.error("%s cannot be read (%s): every agent has its starts again.", self._path, error)
        return {}

    def _write(self, starts: dict[str, int]) -> bool:
        try:
            replace_file(self._path, msgspec.json.encode(Starts(starts=starts)))
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, error)
            return False
        self.starts = starts
        return True

    @property
    def _path(self) -> Path:
        return self.folder.path / "boot.json"


def _is_whole(store: FileStore, agent: Installed) -> bool:
    try:
        store.check(agent.sha256, agent.length)
    except (Refused, OSError) as error:
        log.error("The agent's file %s cannot be used: %s", agent.path, error)
        return False
    return True
