"""One frame without I/O: its conversation with the backend and the installation in progress.

A driver owns connection, clock and threads, and does this:

- ``connected(now)`` when a connection stands, ``disconnected()`` when it is gone; subscriptions go with it;
- ``received(topic, payload, now)`` for each message, ``tick(now)`` when ``deadline`` has come;
- ``wake_up(now)`` after it appended events to the outbox;
- carries out the commands each call returns, in order. A ``Perform`` is done beside the loop, and what came of it goes
  back through ``performed(work, outcome, now)``; unknown or late ones are ignored.

``now`` is seconds on any monotonic clock. Everything that must survive is in the ports: a new FrameCore over the same
ports goes on where the old one was cut.
"""

import logging
import random
import time

from device_agent.convergence import converge, failure_of
from device_agent.installer.driver import Installer
from device_agent.installer.machine import RESTING, Journal, Kept, Objected, RefusedRelease, Settled, Slot
from device_agent.ports import FrameIdentity, Ports
from device_agent.reports import hello, release_of, reported_state
from device_agent.telemetry import health, refusal
from device_agent.trust.director import require_current, verify_desired
from protocol import topics
from protocol.chunks import sha256_hex
from protocol.codec import encode
from protocol.errors import Reason, Refused
from protocol.exchange import Command, Done, Exchange, Publish
from protocol.messages import DesiredState, Failure, HealthEvent, Hello
from protocol.sequences import DEFAULT_RETRY, Perform, RetryPolicy, refresh
from protocol.session import Session

log = logging.getLogger(__name__)

REPORT_AGAIN_S = 30.0
REPORT_EVERY_S = 900.0
"""A report is published again soon after, and then this often: a PUBACK does not mean that the backend has it."""
TRY_AGAIN_S = (600.0, 3_600.0, 6 * 3_600.0)
"""Waits before an installation that failed for a passing reason is tried again."""
PASSING: frozenset[Reason] = frozenset(
    {Reason.NOT_AVAILABLE, Reason.TAMPERED_CHUNK, Reason.DISK_FULL, Reason.EXPIRED, Reason.INTERNAL}
)
"""Reasons that may be gone later without a new DesiredState."""
DESIRED = "desired"
"""Name of the stored envelope among the documents."""


class FrameCore:
    """See the module's text. ``retry`` is how patiently the repository is asked."""

    def __init__(self, identity: FrameIdentity, ports: Ports, retry: RetryPolicy = DEFAULT_RETRY) -> None:
        self.identity = identity
        self._ports = ports
        self._retry = retry
        self._out: list[Command] = []
        self._online = False
        self._noted = False
        self._now = 0.0
        self._exchange: Exchange[None] | None = None
        self._desired: DesiredState | None = None
        self._unverified: bytes | None = None
        self._refused: set[str] = set()
        self._try_again_at: float | None = None
        self._failures = 0
        self._report_at: float | None = None
        self._director_root = ports.trust(ports.documents).director_root
        self._installer = Installer(ports.journal, report=self._report, note=self._note, collect=self._collect)
        self._session = Session(identity.frame_id, ports.outbox, self._hello, self._offered)
        self._installer.restarted()
        self._resume()

    # --- what a driver asks -------------------------------------------------------------------------------------------

    @property
    def journal(self) -> Journal:
        """What the frame runs and what is on its way."""
        return self._installer.journal

    @property
    def playing(self) -> Slot | None:
        """The release to play with; changes only between two calls of the driver."""
        return self.journal.playing

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due; None when nothing is waited for."""
        exchange = self._exchange.deadline if self._exchange is not None else None
        times = (self._session.deadline, exchange, self._try_again_at, self._report_at)
        return min((at for at in times if at is not None), default=None)

    @property
    def online(self) -> bool:
        """Whether there is a connection."""
        return self._online

    # --- what a driver says -------------------------------------------------------------------------------------------

    def connected(self, now: float) -> list[Command]:
        """A connection stands."""
        self._now, self._online = now, True
        self._out += self._session.connected(now)
        self._report()
        if self._exchange is not None:
            self._out += self._exchange.connected(now)
        else:
            self._start()
        return self._drain()

    def disconnected(self) -> None:
        """The connection is gone."""
        self._online = False
        self._report_at = None
        self._session.disconnected()
        if self._exchange is not None:
            self._exchange.disconnected()

    def received(self, topic: str, payload: bytes, now: float) -> list[Command]:
        """A message came in."""
        self._now = now
        self._out += self._session.received(topic, payload, now)
        if self._exchange is not None:
            self._out += self._exchange.received(topic, payload, now)
        return self._drain()

    def performed(self, work: Perform, outcome: Done[object], now: float) -> list[Command]:
        """Work asked for by a Perform is done."""
        self._now = now
        if self._exchange is not None:
            self._out += self._exchange.performed(work, outcome, now)
        return self._drain()

    def tick(self, now: float) -> list[Command]:
        """Time has passed; may be called at any time."""
        self._now = now
        self._out += self._session.tick(now)
        if self._exchange is not None:
            self._out += self._exchange.tick(now)
        if self._try_again_at is not None and now >= self._try_again_at:
            self._try_again_at = None
            self._resume()
            self._start()
        if self._report_at is not None and now >= self._report_at:
            self._report(REPORT_EVERY_S)
        return self._drain()

    def wake_up(self, now: float) -> list[Command]:
        """There are new events in the outbox."""
        self._now = now
        self._noted = True
        return self._drain()

    def fault(self, kind: str, detail: str, now: float) -> list[Command]:
        """Something went wrong around the core that ops should know: recorded as a HealthEvent."""
        self._record(health(kind, detail, at=self._ports.now_ms(), release=release_of(self.journal)))
        return self.wake_up(now)

    # --- desired state ------------------------------------------------------------------------------------------------

    def _offered(self, envelope: bytes) -> None:
        """An envelope came in; verified before it may stop what is on its way."""
        digest = sha256_hex(envelope)
        if digest in self._refused:
            return
        held = self.journal.desired_version
        try:
            desired = verify_desired(envelope, self._director_root, self.identity.frame_id, held)
            if desired.version > held:
                require_current(desired, _security_now_ms())
        except Refused as refused:
            unsigned = refused.reason is Reason.WRONG_SIGNATURE
            if unsigned and (self._exchange is not None or self._unverified != envelope):
                # The director's keys may have changed while the frame was away: look for newer roots, once.
                self._unverified = envelope
                if self._exchange is None:
                    self._look_for_roots()
                return
            self._unverified = None
            self._object(digest, refused)
            return
        self._unverified = None
        if desired.version == held:
            self._hold(desired, envelope)
            return
        self._ports.documents.save(DESIRED, envelope)
        if self._exchange is not None:
            self._out += self._exchange.cancel()
            self._exchange = None
        self._desired, self._failures, self._try_again_at = desired, 0, None
        self._start()

    def _object(self, digest: str, refused: Refused) -> None:
        if len(self._refused) >= 64:  # bounded; forgetting only means one more HealthEvent
            self._refused.clear()
        self._refused.add(digest)
        if refused.reason is Reason.OLD_VERSION:
            # A late copy, or a replay: worth an event, but nothing is wrong with the frame.
            self._note(failure_of(refused))
        else:
            self._installer.apply(Objected(failure_of(refused)))

    def _hold(self, desired: DesiredState, envelope: bytes) -> None:
        """The version that is held came again: a stray one before it is forgotten, a longer life is taken over."""
        journal = self.journal
        if self._exchange is not None:
            return
        if journal.failure is not None and journal.state == "idle":
            self._installer.apply(Kept(desired.version))
        elif journal.failure is not None and journal.state == "committed":
            self._installer.apply(Settled(desired.version))
        elif journal.state == "failed" and desired.expires_at > self._stored_expiry():
            self._ports.documents.save(DESIRED, envelope)
            if journal.failure is not None and journal.failure.reason is Reason.EXPIRED:
                self._try_again_at = self._now

    def _stored_expiry(self) -> int:
        envelope = self._ports.documents.load(DESIRED)
        if envelope is None:
            return 0
        try:
            return verify_desired(envelope, self._director_root, self.identity.frame_id, 0).expires_at
        except Refused:
            return 0

    def _resume(self) -> None:
        """Take up the stored DesiredState if it has not been carried out."""
        envelope = self._ports.documents.load(DESIRED)
        if envelope is None:
            return
        journal = self.journal
        passing = journal.state == "failed" and journal.failure is not None and journal.failure.reason in PASSING
        try:
            desired = verify_desired(envelope, self._director_root, self.identity.frame_id, journal.desired_version)
            if desired.version == journal.desired_version and journal.state in RESTING and not passing:
                return
            require_current(desired, _security_now_ms())
        except Refused as refused:
            if journal.state not in RESTING:
                self._installer.apply(RefusedRelease(failure_of(refused)))
            return
        self._desired = desired

    def _look_for_roots(self) -> None:
        trust = self._ports.trust(self._ports.documents)
        self._exchange = Exchange(refresh(trust, [], self._retry))
        self._out += self._exchange.start(self._now, connected=self._online)

    def _start(self) -> None:
        """Begin on the newest DesiredState, once there is a connection."""
        if self._desired is None or self._exchange is not None or not self._online:
            return
        desired, self._desired = self._desired, None
        program = converge(desired, self.identity, self._ports, self._installer, self._retry)
        self._exchange = Exchange(program)
        self._out += self._exchange.start(self._now, connected=True)

    def _ended(self, done: Done[None]) -> None:
        director_root = self._ports.trust(self._ports.documents).director_root
        if director_root.version != self._director_root.version:
            self._director_root = director_root
            self._refused.clear()
        journal = self.journal
        if done.error is not None:
            log.error("The installation stopped: %s", failure_of(done.error).detail)
        failed = journal.state == "failed" and journal.failure is not None and journal.failure.reason in PASSING
        if failed and self._desired is None:
            wait = TRY_AGAIN_S[min(self._failures, len(TRY_AGAIN_S) - 1)]
            self._failures += 1
            self._try_again_at = self._now + wait * random.uniform(0.75, 1.25)  # noqa: S311  jitter needs no secrecy
        if self._unverified is not None:
            self._offered(self._unverified)
        self._start()

    # --- effects ------------------------------------------------------------------------------------------------------

    def _hello(self) -> Hello:
        return hello(self.identity, self.journal, self._ports.outbox.outbox_id)

    def _report(self, again_s: float = REPORT_AGAIN_S) -> None:
        if not self._online:
            return  # the next connection begins with a report
        state = reported_state(self.identity, self.journal, self._ports.now_ms())
        self._out.append(Publish(topics.frame_topic(self.identity.frame_id, "reported"), encode(state)))
        self._report_at = self._now + again_s

    def _note(self, failure: Failure) -> None:
        self._record(refusal(failure, at=self._ports.now_ms(), release=release_of(self.journal)))

    def _record(self, event: HealthEvent) -> None:
        try:
            self._ports.outbox.append(event)
        except OSError as error:
            log.error("The event %r could not be recorded: %s", event.kind, error)
        self._noted = True

    def _collect(self) -> None:
        gone = self._ports.store.collect(self.journal.files())
        log.info("Deleted %d files that no slot names", gone)

    def _drain(self) -> list[Command]:
        while self._exchange is not None and self._exchange.done is not None:
            done, self._exchange = self._exchange.done, None
            self._ended(done)
        if self._noted:
            self._noted = False
            self._out += self._session.wake_up(self._now)
        commands, self._out = self._out, []
        return commands


def _security_now_ms() -> int:
    return time.time_ns() // 1_000_000
