"""The agent itself: core, connection, player and page of one frame, put together."""

import logging
import os
import signal
import threading
import time
from functools import partial
from typing import Any

import msgspec

from device_agent.boot import ENDS, Boot
from device_agent.clock import SecurityClock, utc
from device_agent.core import FrameCore
from device_agent.folder import (
    AgentFolder,
    ConfigError,
    broker_url,
    read_frame_file,
    read_identity,
    trial_policy,
)
from device_agent.identity.claim import server_context
from device_agent.identity.lifeline import Core, Endpoint, Lifeline
from device_agent.identity.pairs import Pairs, certified_identity
from device_agent.identity.state import identity_state
from device_agent.identity.wrong import WrongIdentityCore, mismatch
from device_agent.installer.slots import Slot
from device_agent.notify import Notifier
from device_agent.page.description import LocalPage, describe, disk, release_name
from device_agent.page.server import LocalPage as Page
from device_agent.player import Player
from device_agent.ports import FrameIdentity, Ports
from device_agent.renderer import Renderer, RendererOptions
from device_agent.renderer.trials import StoreTrial
from device_agent.settings.layers import Settings
from device_agent.storage.files import replace_file
from device_agent.storage.journal import FileDocuments, FileJournal
from device_agent.storage.outbox import FileOutbox
from device_agent.storage.store import FileStore
from device_agent.transfer.ports import TransferPorts
from device_agent.transfer.usage import FileUsage
from device_agent.transport import MqttDriver
from device_agent.trust.epoch import epoch_store
from device_agent.trust.image import ImageTrust, director_root
from protocol import topics
from protocol.exchange import Command
from protocol.messages import AnyEvent

log = logging.getLogger(__name__)

FLUSH_EVERY_S = 2.0
"""A power cut takes at most the events of this long, none of which anybody has seen."""
MB = 1_000_000


class Agent:
    """Core, connection, player and page of one frame, put together."""

    def __init__(self, folder: AgentFolder, settings: Settings, notifier: Notifier, boot: Boot) -> None:
        frame = read_frame_file(folder)
        url = broker_url(settings.mqtt, frame)
        identity = read_identity(folder, boot.running)
        self._boot = boot
        self._told = self._handing_over = False
        self._pairs = Pairs(folder.identity)
        certified = certified_identity(self._pairs)
        documents = FileDocuments(folder.trust)
        self._clock = clock = SecurityClock(documents, director_root(documents).version)
        self._quiet = quiet = threading.Lock()
        folder.media.mkdir(exist_ok=True)
        self._folder = folder
        self._notifier = notifier
        self._store = FileStore(folder.path, headroom=settings.disk_reserve_mb * MB)
        self._outbox = FileOutbox(folder.outbox, settings.outbox_mb * MB, settings.outbox_events)
        renderer = Renderer(renderer_options(settings))
        ports = Ports(
            journal=FileJournal(folder.journal),
            documents=documents,
            store=self._store,
            outbox=self._outbox,
            trial=StoreTrial(self._store, renderer, quiet, self._record, clock.date_ms, boot.environment_of),
            trust=partial(ImageTrust, now=clock.now),
            epoch=epoch_store(settings.epoch_helper, folder.epoch),
            security_now=clock.now,
            now_ms=clock.date_ms,
            sent_ms=clock.date_ms,
            witness=clock.witness,
            transfer=TransferPorts(
                usage=FileUsage(folder.path / "usage.json"), local_time=lambda: utc(clock.date_ms()).astimezone()
            ),
        )
        self._runtime = settings.runtime
        self._policy = trial_policy(settings)
        self._core = FrameCore(identity, ports, policy=self._policy, not_started=boot.not_started)
        self._identity = identity
        self._wrong_identity = mismatch(identity.frame_id, certified) if certified != identity.frame_id else None
        endpoint = None
        if frame.server is not None:
            endpoint = Endpoint(
                frame.server, lambda: server_context(folder, frame, self._pairs.current.ca, self._clock)
            )
        lifeline = Lifeline(
            self._driven(identity, certified),
            certified,
            self._pairs,
            clock,
            lambda: ports.trust(documents),
            endpoint,
            renews=self._wrong_identity is None,
        )
        self._driver = MqttDriver(lifeline, url, lifeline, self._each_turn)
        self._started = False
        self._began = time.monotonic()
        self._flush_at = 0.0
        self._waiting = 0
        self._named: tuple[str | None, str | None] = None, None
        self._player = Player(
            folder.path,
            self._store,
            self._playing,
            self._record,
            quiet,
            renderer,
            played=self._played,
            sink=settings.sink,
            now_ms=clock.date_ms,
        )
        self._page = Page(self._player, self.status, [folder.media, *settings.media], settings.port)

    def run(self) -> None:
        """Until SIGTERM or SIGINT, or until another agent is to take over (``hands_over``)."""
        for number in ENDS:
            signal.signal(number, self._tell)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)  # the agent before may have held one back
        page = LocalPage(port=self._page.port, pid=os.getpid())
        try:
            replace_file(self._folder.page, msgspec.json.encode(page))
        except OSError as error:  # a full disk keeps nobody from seeing films
            log.error("The page's address could not be written down: %s", error)
        log.info("Frame %s; its page is %s", self._identity.frame_id, page.url)
        try:
            with self._store.pinned(*([self._boot.running] if self._boot.running is not None else [])):
                self._driver.run()
        finally:
            if not self.hands_over:  # else the service goes on, and nobody needs to be told
                self._notifier.stopping()
            self._core.stop(time.monotonic())
            self._player.close()
            self._page.close()
            self._folder.page.unlink(missing_ok=True)
            self._outbox.close()
        if self._told:
            self._boot.take_back(self._core.journal)

    @property
    def told(self) -> bool:
        """Whether the agent was asked to stop."""
        return self._told

    @property
    def hands_over(self) -> bool:
        """Whether ``run`` ended because the journal wants another agent to run, and for nothing else."""
        return self._handing_over and not self._told

    def status(self) -> dict[str, Any]:
        """For the page and ``device-agent status``."""
        journal = self._core.journal
        status = describe(self._identity, journal, self._policy)
        status["release_name"] = self._name_of(status["release"])
        status |= {"running": True, "online": self._core.online, "wrong_identity": self._wrong_identity}
        films = self._player.recent
        status["target_name"] = release_name(self._store, status["target"])
        status["last_playback"] = msgspec.to_builtins(films[0]) if films else None
        status["runtime"] = {"setting": self._runtime} | (self._player.runtime or {"uses": None, "why": None})
        status["outbox_waiting"] = self._waiting
        status["disk"] = disk(self._folder)
        status |= identity_state(self._pairs, self._clock)
        return status

    def _tell(self, *_: object) -> None:
        self._told = True
        self._driver.stop()

    def _driven(self, identity: FrameIdentity, certified: str) -> Core:
        if self._wrong_identity is None:
            return self._core
        log.error("%s", self._wrong_identity)
        if not topics.is_frame_id(certified):
            raise ConfigError(f"The certificate names {certified!r}, which is no frame: enrol the frame again.")
        return WrongIdentityCore(identity.frame_id, certified, FileOutbox(self._folder.path / "outbox-wrong-identity"))

    def _playing(self) -> Slot | None:
        return self._core.playing

    def _record(self, event: AnyEvent) -> None:
        def happened(now: float) -> list[Command]:
            self._outbox.append(event)
            return self._core.wake_up(now) if self._wrong_identity is None else []

        self._driver.submit(happened)

    def _played(self, release: str, crash: str | None) -> None:
        if self._wrong_identity is None:
            self._driver.submit(lambda now: self._core.played(now, release, crash))

    def _each_turn(self) -> None:
        now = time.monotonic()
        if now >= self._flush_at:
            self._flush_at = now + FLUSH_EVERY_S
            self._outbox.flush()
            self._waiting = self._outbox.waiting
            if self._started:
                self._notifier.status(self._line())
        if not self._started:
            self._started = True
            self._notifier.ready(self._line())
        journal = self._core.journal
        self._boot.goes_on(journal, now - self._began, answered=self._core.answered)
        # Between two films, and none begins any more.
        if not self._handing_over and self._boot.wants_another(journal) and self._quiet.acquire(blocking=False):
            log.info("Another agent takes over.")
            self._handing_over = True
            self._driver.stop()
            self._notifier.beat(now, at_once=True)
        # A committed release goes on playing whatever the loop stumbles over; one that is to prove itself does not.
        if self._page.alive() and (self._driver.well or journal.probation is None):
            self._notifier.beat(now)

    def _line(self) -> str:
        journal = self._core.journal
        plays = self._name_of(journal.playing.release if journal.playing else None) or "no release yet"
        line = "connected" if self._core.online else "not connected"
        state = "on probation" if journal.probation is not None else journal.state
        return f"{self._identity.frame_id}: {plays}; {state}; {line}; {self._waiting} events wait."

    def _name_of(self, release: str | None) -> str | None:
        """``release_name``, read from the disk once for each release."""
        known, name = self._named
        if known != release or name is None:
            name = release_name(self._store, release)
            self._named = release, name
        return name


def renderer_options(settings: Settings) -> RendererOptions:
    """What the settings say about renderers."""
    return RendererOptions(
        runtime=settings.runtime,
        core_mask=settings.core_mask,
        beat_s=settings.renderer_beat_s,
        timeout_s=settings.playback_timeout_s,
        idle_s=settings.renderer_idle_s,
        memory_mb=settings.renderer_memory_mb,
    )
