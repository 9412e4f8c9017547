"""One frame without I/O: its conversation with the backend and the installation in progress.

A driver owns connection, clock and threads, and does this:

- ``connected(now)`` when a connection stands, ``disconnected()`` when it is gone; subscriptions go with it;
- ``received(topic, payload, now)`` for each message, ``tick(now)`` when ``deadline`` has come;
- ``wake_up(now)`` after it appended events to the outbox;
- ``played(now, release, crash)`` after each playback, ``stop(now)`` before it ends in order;
- carries out the commands each call returns, in order. A ``Perform`` is done beside the loop, and what came of it goes
  back through ``performed(work, outcome, now)``; unknown or late ones are ignored.

``now`` is seconds on any monotonic clock. Everything that must survive is in the ports: a new FrameCore over the same
ports goes on where the old one was cut.
"""

import logging
import random
from collections.abc import Callable

from device_agent.convergence import converge
from device_agent.failures import failure_of
from device_agent.gate import Gate
from device_agent.installer.driver import Installer
from device_agent.installer.slots import Journal, Slot, file_of
from device_agent.ports import FrameIdentity, Ports, TrialPolicy
from device_agent.reports import figures, hello, release_of, reported_state
from device_agent.telemetry import health, random_id
from device_agent.transfer.meter import Progress
from device_agent.trial.probation import Watch
from protocol import topics
from protocol.codec import encode
from protocol.errors import Reason, Refused
from protocol.exchange import Command, Done, Exchange, Publish
from protocol.messages import DesiredState, Failure, Hello
from protocol.sequences import DEFAULT_RETRY, Perform, RetryPolicy, refresh
from protocol.session import Session

log = logging.getLogger(__name__)

REPORT_AGAIN_S = 30.0
REPORT_EVERY_S = 900.0
"""A report is published again soon after, and then this often: a PUBACK does not mean that the backend has it."""
TRY_AGAIN_S = (600.0, 3_600.0, 6 * 3_600.0)
"""Waits before an installation that failed for a passing reason is tried again."""
TRIES_AGAIN = 12
"""Then, after some two and a half days, it is not tried again before the next order or the next start."""

EPOCH = "security_epoch"
"""Kind of the HealthEvent about a floor that could not be read or raised."""

AGENT = "agent_not_started"
"""Kind of the HealthEvent about a committed release that plays on another agent than the one it brought."""

DEFAULT_POLICY = TrialPolicy()


class FrameCore:
    """See the module's text. ``retry`` is how patiently the repository is asked, ``policy`` how long probation is.
    ``not_started`` says in a sentence why the agent that the journal wants does not run, where that was given up."""

    def __init__(
        self,
        identity: FrameIdentity,
        ports: Ports,
        retry: RetryPolicy = DEFAULT_RETRY,
        policy: TrialPolicy = DEFAULT_POLICY,
        not_started: Callable[[Journal], str | None] = lambda journal: None,
    ) -> None:
        self.identity = identity
        self._answered = False
        self._not_started = not_started
        self._not_started_told: str | None = None
        self._ports = ports
        self._retry = retry
        self._policy = policy
        self._process = random_id()
        self._out: list[Command] = []
        self._online = False
        self._noted = False
        self._now = 0.0
        self._exchange: Exchange[None] | None = None
        self._desired: DesiredState | None = None
        self._unverified: bytes | None = None
        self._try_again_at: float | None = None
        self._failures = 0
        self._report_at: float | None = None
        director_root = ports.trust(ports.documents).director_root
        self._progress = Progress(self._report)
        self._installer = Installer(ports.journal, report=self._report, note=self._note, collect=self._collect)
        self._gate = Gate(
            identity.frame_id, ports.documents, self._installer, director_root, note=self._note, now=ports.security_now
        )
        self._session = Session(identity.frame_id, ports.outbox, self._hello, self._offered, ports.sent_ms)
        self._installer.restarted()
        self._keep_epoch()
        self._watch = Watch(self._installer, policy, self._whole, runs=self._runs, answered=lambda: self._answered)
        self._judge_agent()
        self._tidy()
        self._resume()

    # --- what a driver asks -------------------------------------------------------------------------------------------

    @property
    def journal(self) -> Journal:
        """What the frame runs and what is on its way."""
        return self._installer.journal

    @property
    def playing(self) -> Slot | None:
        """The release to play with; changes only between two calls of the driver."""
        return self.journal.playing if self._runs() and not self._watch.failed else self.journal.committed

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due; None when nothing is waited for."""
        exchange = self._exchange.deadline if self._exchange is not None else None
        times = (self._session.deadline, exchange, self._try_again_at, self._report_at, self._watch.deadline)
        return min((at for at in times if at is not None), default=None)

    @property
    def online(self) -> bool:
        """Whether there is a connection."""
        return self._online

    @property
    def answered(self) -> bool:
        """Whether the backend has answered a hello since the start."""
        return self._answered

    # --- what a driver says -------------------------------------------------------------------------------------------

    def connected(self, now: float) -> list[Command]:
        """A connection stands."""
        self._now, self._online = now, True
        self._out += self._session.connected(now)
        self._report()
        if self._exchange is not None:
            self._out += self._exchange.connected(now)
        else:
            if self._gate.timeless:
                self._resume()
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
        self._answered = self._answered or self._session.greeted
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

    def played(self, now: float, release: str, crash: str | None = None) -> list[Command]:
        """A playback with ``release`` has ended; ``crash`` is a sentence when rendering crashed or hung. A photo or
        voice that was refused is neither."""
        self._now = now
        self._watch.played(now, release, crash)
        return self._drain()

    def greet(self, now: float) -> list[Command]:
        """Say hello although it is not due. Whose days pass in seconds says something every day in this way."""
        self._now = now
        self._out += self._session.greet()
        return self._drain()

    def stop(self, now: float) -> None:
        """The agent is about to end in order. What the frame would say now it says after its next start."""
        self._watch.stop(now)

    def fault(self, kind: str, detail: str, now: float) -> list[Command]:
        """Something went wrong around the core that ops should know: recorded as a HealthEvent."""
        self._record_health(kind, detail)
        return self.wake_up(now)

    # --- desired state ------------------------------------------------------------------------------------------------

    def _offered(self, envelope: bytes) -> None:
        """An envelope came in; verified before it may stop what is on its way."""
        try:
            self._judge(envelope)
        except OSError as error:  # it comes again, as long as the hello names an older version
            self._note(failure_of(error))

    def _judge(self, envelope: bytes) -> None:
        if self._gate.knows(envelope):
            return
        try:
            desired = self._gate.read(envelope)
        except Refused as refused:
            unsigned = refused.reason is Reason.WRONG_SIGNATURE
            if unsigned and (self._exchange is not None or self._unverified != envelope):
                # The director's keys may have changed while the frame was away: look for newer roots, once.
                self._unverified = envelope
                if self._exchange is None:
                    self._look_for_roots()
                return
            self._unverified = None
            self._gate.object(envelope, refused)
            return
        self._unverified = None
        self._ports.witness(desired.issued_at)
        if desired.version == self.journal.desired_version:
            if self._exchange is None and self._gate.confirm(desired, envelope):
                self._try_again_at = self._now
            return
        if self._desired is None and self._gate.renews(desired, envelope):
            if self._gate.expired:
                self._try_again_at = self._now
            return
        if not self._gate.accept(desired, envelope):
            return
        if self._exchange is not None:
            self._out += self._exchange.cancel()
            self._exchange = None
        self._desired, self._failures, self._try_again_at = None, 0, None
        if self._gate.current(desired):
            self._desired = desired
            self._start()
        else:
            self._try_later()

    def _resume(self) -> None:
        """Take up the stored DesiredState if it has not been carried out."""
        try:
            desired = self._gate.pending()
        except OSError as error:
            log.error("The journal cannot be saved: %s", error)
            self._try_later()
            return
        if desired is not None:
            self._desired = desired
        elif self._desired is None and self._gate.may_pass:
            self._try_later()

    def _try_later(self) -> None:
        if self._failures >= TRIES_AGAIN:
            return
        wait = TRY_AGAIN_S[min(self._failures, len(TRY_AGAIN_S) - 1)]
        self._failures += 1
        self._try_again_at = self._now + wait * random.uniform(0.75, 1.25)  # noqa: S311  jitter needs no secrecy

    def _look_for_roots(self) -> None:
        trust = self._ports.trust(self._ports.documents)
        self._exchange = Exchange(refresh(trust, [], self._retry))
        self._out += self._exchange.start(self._now, connected=self._online)

    def _start(self) -> None:
        """Begin on the newest DesiredState, once there is a connection."""
        if self._desired is None or self._exchange is not None or not self._online:
            return
        desired, self._desired = self._desired, None
        program = converge(
            desired, self._gate.holds_under, self.identity, self._ports, self._installer, self._retry, self._progress
        )
        self._exchange = Exchange(program)
        self._out += self._exchange.start(self._now, connected=True)

    def _ended(self, done: Done[None]) -> None:
        self._gate.trust(self._ports.trust(self._ports.documents).director_root)
        if done.error is not None:  # not even the journal could be told
            failure = failure_of(done.error)
            log.error("The installation stopped: %s", failure.detail)
            self._note(failure)
        if (done.error is not None or self._gate.may_pass) and self._desired is None:
            self._try_later()
        if self._unverified is not None:
            self._offered(self._unverified)
        self._start()

    # --- effects ------------------------------------------------------------------------------------------------------

    def _hello(self) -> Hello:
        return hello(self.identity, self.journal, self._ports.outbox.outbox_id, self._process)

    def _report(self, again_s: float = REPORT_AGAIN_S) -> None:
        if not self._online:
            return  # the next connection begins with a report
        state = reported_state(self.identity, self.journal, self._policy, self._progress, self._ports.now_ms())
        self._out.append(Publish(topics.frame_topic(self.identity.frame_id, "reported"), encode(state)))
        self._report_at = self._now + again_s

    def _note(self, failure: Failure) -> None:
        journal = self.journal
        measured = figures(journal, self._policy) if journal.state == "reverted" else None
        self._record_health(failure.reason.value, failure.detail, measured)

    def _record_health(self, kind: str, detail: str, figures: dict[str, float] | None = None) -> None:
        release = release_of(self.journal)
        try:
            self._ports.outbox.append(health(kind, detail, at=self._ports.now_ms(), release=release, figures=figures))
        except OSError as error:
            log.error("The event %r could not be recorded: %s", kind, error)
        self._noted = True

    def _keep_epoch(self) -> None:
        """The floor is that of the release that was committed last: also after a cut, and where it was damaged."""
        committed = self.journal.committed
        kept = self._ports.epoch
        try:
            try:
                kept.floor()
            finally:
                kept.raise_to(committed.security_epoch if committed is not None else 0)
        except (Refused, OSError) as error:
            self._record_health(EPOCH, failure_of(error).detail)

    def _tidy(self) -> None:
        """At the start: what was given up and is still in the store goes, unless an installation may go on with it."""
        journal = self.journal
        if journal.state not in ("idle", "committed", "reverted") or journal.committed is None:
            return  # a blank frame keeps what it has: its journal may have been lost, and its files need no transfer
        try:
            self._ports.store.collect(self._installer.files())
        except OSError as error:
            log.error("The store cannot be tidied: %s", error)

    def _runs(self) -> bool:
        """Whether the agent that the playing release wants is the one that runs."""
        return file_of(self.journal.agent) == self.identity.agent

    def _judge_agent(self) -> None:
        """Where the agent that should run was given up, its release gives way; asked again and again, as one that is
        given up may be followed by another."""
        if self._runs() or self._watch.failed or (why := self._not_started(self.journal)) is None:
            return
        if not self._watch.agent_lost(why) and why != self._not_started_told:
            self._not_started_told = why
            self._record_health(AGENT, why)

    def _whole(self, slot: Slot) -> bool:
        return all(self._ports.store.has(name) for name in slot.files())

    def _collect(self) -> None:
        self._keep_epoch()  # a commit is what leaves something behind
        gone = self._ports.store.collect(self._installer.files())
        log.info("Deleted %d files that no slot names", gone)

    def _drain(self) -> list[Command]:
        while self._exchange is not None and self._exchange.done is not None:
            done, self._exchange = self._exchange.done, None
            self._ended(done)
        self._judge_agent()
        self._watch.tick(self._now)
        if self._noted:
            try:
                self._out += self._session.wake_up(self._now)
                self._noted = False
            except OSError as error:  # with the next thing that happens they are tried again
                log.error("The outbox cannot be read or written: %s", error)
        commands, self._out = self._out, []
        return commands
