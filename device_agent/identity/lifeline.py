"""Which connection the frame needs right now, and what it does while it has none. Without I/O.

A Lifeline is driven in place of the core it is made for, and says how to connect (``device_agent.transport.Line``):

- the time is known: strictly, with the current certificate, and the core converses; ``Renewal`` asks for the next
  certificate in good time;
- the time is not known, or the broker's certificate makes it doubtful: dates unchecked, and only ``Asking`` converses;
  the core is told of no connection;
- the certificate has lapsed, or the broker refuses it near its end, or nobody lets the frame ask: the birth endpoint
  (HTTPS) renews it or says the time.

``generation`` changes when the connection must be made anew. A certificate that the broker does not take gives way to
the one before it.
"""

import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from device_agent.clock import SecurityClock
from device_agent.failures import failure_of
from device_agent.identity import lapsed
from device_agent.identity.asking import Asking
from device_agent.identity.certificates import Accepted
from device_agent.identity.pairs import Pairs
from device_agent.identity.renewal import Renewal, due, left_out
from device_agent.identity.server import BirthFailed
from device_agent.ports import FrameTrust
from device_agent.settings.kinds import ConfigError
from device_agent.trust.director import verify_time
from protocol.errors import Reason, Refused
from protocol.exchange import Command, Done
from protocol.sequences import Perform

UNTAKEN = 5
"""Refusals after which a new certificate gives way to the one before it."""
REFUSED = 10
"""Refusals after which a certificate near its end is renewed at the birth endpoint."""
UNASKED = 3
"""Refusals after which a frame without time asks the birth endpoint."""
UNDATED = 2
"""Connections in a row that fail over the broker's dates, after which the frame asks what time it is."""
FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 3_600.0
"""Between two visits to the birth endpoint."""
LOOK_EVERY_S = 60.0
DOUBT_AFTER_S = 3_600.0
"""A time that the director signed is doubted only this long after: the broker's certificate may really have ended."""


class Core(Protocol):
    """What converses once the connection is right: a FrameCore, or anything with its methods."""

    @property
    def deadline(self) -> float | None: ...
    def connected(self, now: float) -> list[Command]: ...
    def disconnected(self) -> None: ...
    def received(self, topic: str, payload: bytes, now: float) -> list[Command]: ...
    def performed(self, work: Perform, outcome: Done[object], now: float) -> list[Command]: ...
    def tick(self, now: float) -> list[Command]: ...
    def fault(self, kind: str, detail: str, now: float) -> list[Command]: ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The birth endpoint. ``context`` makes a TLS context that trusts it, dates by the clock's knowledge of time."""

    url: str
    context: Callable[[], ssl.SSLContext]


class Lifeline:
    """``renews`` False for a frame that holds somebody else's certificate; ``endpoint`` None where none is known."""

    def __init__(
        self,
        core: Core,
        frame_id: str,
        pairs: Pairs,
        clock: SecurityClock,
        trust: Callable[[], FrameTrust],
        endpoint: Endpoint | None = None,
        *,
        renews: bool = True,
    ) -> None:
        self._core = core
        self._frame_id = frame_id
        self._pairs = pairs
        self._clock = clock
        self._trust = trust
        self._endpoint = endpoint
        self._renews = renews
        self._asking = Asking(frame_id, clock, trust, self._note)
        self._renewal = Renewal(frame_id, pairs, clock.now, self._note, self._anew)
        self._source = clock.source
        self._generation = 0
        self._refused = self._wrong_dates = 0
        self._errand: Perform | None = None
        self._errand_at = 0.0
        self._visits = 0
        self._doubt_at = 0.0
        self._look_at: float | None = 0.0
        self._unsigned = False
        self._told: set[tuple[str, str]] = set()
        self._now = 0.0
        self._out: list[Command] = []

    # --- how to connect -----------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Another one than before: connect anew, with a new ``context``."""
        return self._generation

    @property
    def asking(self) -> bool:
        """Whether the frame still has to learn what time it is."""
        return self._source is None

    def context(self) -> ssl.SSLContext:
        """For the next connection. Raises OSError, ConfigError."""
        try:
            return self._pairs.context(self._clock)
        except (OSError, ConfigError):
            if not self._pairs.trying:
                raise
            self._pairs.fall_back()
            self._renewal.untaken(self._now)
            return self._pairs.context(self._clock)

    def failed(self, *, refused: bool, dates: bool, now: float) -> None:
        """There was no connection: the broker could not be reached, or was there and ``refused`` (see the Line)."""
        if not refused:
            return
        self._now = now
        self._refused += 1
        self._look_at = now
        self._wrong_dates = self._wrong_dates + 1 if dates else 0
        doubtful = self._source == "wall" or (self._source == "signed" and now >= self._doubt_at)
        if self._wrong_dates >= UNDATED and doubtful:
            self._clock.doubt()
        if self._pairs.trying and self._refused >= UNTAKEN:
            self._pairs.fall_back()
            self._renewal.untaken(now)
            self._anew()

    # --- what a driver says -------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due."""
        part = self._asking.deadline if self.asking else self._renewal.deadline
        return min((at for at in (self._core.deadline, part, self._look_at) if at is not None), default=None)

    def connected(self, now: float) -> list[Command]:
        """A connection stands."""
        self._now, self._refused = now, 0
        if self.asking:
            return self._drain(self._asking.connected(now))
        self._visits = 0
        self._told.clear()
        self._confirm()
        commands = self._core.connected(now)
        return self._drain([*commands, *(self._renewal.connected(now) if self._renews else [])])

    def disconnected(self) -> None:
        """The connection is gone."""
        for part in (self._asking, self._renewal, self._core):
            part.disconnected()

    def received(self, topic: str, payload: bytes, now: float) -> list[Command]:
        """A message came in."""
        self._now = now
        if self.asking:
            return self._drain(self._asking.received(topic, payload, now))
        commands = self._core.received(topic, payload, now)
        return self._drain([*commands, *(self._renewal.received(topic, payload, now) if self._renews else [])])

    def performed(self, work: Perform, outcome: Done[object], now: float) -> list[Command]:
        """Work asked for by a Perform is done."""
        self._now = now
        if work is not self._errand:
            return self._drain(self._core.performed(work, outcome, now))
        self._errand = None
        self._visited(outcome, now)
        return self._drain([])

    def tick(self, now: float) -> list[Command]:
        """Time has passed."""
        self._now = now
        commands = self._core.tick(now)
        if self.asking:
            commands += self._asking.tick(now)
        elif self._renews:
            commands += self._renewal.tick(now)
        return self._drain(commands)

    def fault(self, kind: str, detail: str, now: float) -> list[Command]:
        """Something went wrong around the core."""
        return self._core.fault(kind, detail, now)

    # --- the birth endpoint -------------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Whether the connection must change, or the birth endpoint be visited."""
        if self._clock.source != self._source:
            self._source = self._clock.source
            self._doubt_at = now + DOUBT_AFTER_S
            self._anew()
        if self._look_at is None or now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        if self._errand is not None or now < self._errand_at or not self._renews:
            return
        try:
            work = self._work()
        except (OSError, ConfigError) as error:
            self._tell("renewal_failed", failure_of(error).detail if isinstance(error, OSError) else str(error))
            return
        if work is not None:
            self._errand = Perform(work)
            self._out.append(self._errand)

    def _work(self) -> Callable[[], object] | None:
        certificate = self._pairs.current.certificate()
        time = self._clock.now()
        if time is None:
            if self._refused < UNASKED or self._endpoint is None:
                return None
            endpoint = self._endpoint
            if self._unsigned:  # the director's key has changed: to learn that, the broker must let the frame in
                return self._renewing(endpoint)
            return lambda: lapsed.ask_time(endpoint.url, endpoint.context)
        gone = time >= certificate.not_valid_after_utc
        if not gone and not (self._refused >= REFUSED and time >= due(certificate)):
            return None
        if self._endpoint is None:
            self._tell(
                "certificate_lapsed",
                f"The certificate ends on {certificate.not_valid_after_utc:%Y-%m-%d}, the broker refuses it, and this "
                "frame knows no birth endpoint: enrol it again.",
            )
            return None
        return self._renewing(self._endpoint)

    def _renewing(self, endpoint: Endpoint) -> Callable[[], object]:
        pair = self._pairs.current
        what = lapsed.Lapsed(
            frame_id=self._frame_id,
            certificate=pair.certificate(),
            authorities=pair.authorities(),
            key=self._pairs.key(),
            next_key=self._pairs.next_key(),
            now=self._clock.now,
        )
        return lambda: lapsed.renew(endpoint.url, endpoint.context, what)

    def _visited(self, outcome: Done[object], now: float) -> None:
        try:
            if outcome.error is not None:
                raise outcome.error
            match outcome.value:
                case Accepted() as accepted:
                    self._pairs.adopt(accepted)
                    if accepted.left_out:
                        self._note("unknown_authority", left_out(accepted))
                    self._unsigned = False
                    self._anew()
                case lapsed.Timed(nonce, envelope):
                    self._clock.learn(verify_time(envelope, self._trust().director_root, nonce))
                    self._errand_at = self._look_at = now  # the certificate may need the endpoint too
                    return
        except (BirthFailed, Refused, ConfigError, OSError) as error:
            unsigned = isinstance(error, Refused) and error.reason is Reason.WRONG_SIGNATURE and self.asking
            self._unsigned = unsigned and not self._unsigned
            self._tell("renewal_failed", failure_of(error).detail if isinstance(error, OSError) else str(error))
        wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._visits, 16))
        self._visits += 1
        self._errand_at = now + wait * random.uniform(0.5, 1.0)  # noqa: S311  jitter needs no secrecy
        self._look_at = self._errand_at

    # --- effects ------------------------------------------------------------------------------------------------------

    def _anew(self) -> None:
        self._generation += 1
        self._refused = self._wrong_dates = 0

    def _confirm(self) -> None:
        try:
            self._pairs.confirm()
        except OSError as error:  # the next connection does it; this one is good all the same
            failure = failure_of(error)
            self._tell(failure.reason.value, failure.detail)

    def _note(self, kind: str, detail: str) -> None:
        self._out += self._core.fault(kind, detail, self._now)

    def _tell(self, kind: str, detail: str) -> None:
        """Note what stays as it is only once, until there is a connection again."""
        if (kind, detail) not in self._told:
            self._told.add((kind, detail))
            self._note(kind, detail)

    def _drain(self, commands: list[Command]) -> list[Command]:
        self._look(self._now)
        out, self._out = self._out, []
        return [*commands, *out]
