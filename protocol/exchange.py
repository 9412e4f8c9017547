"""Runs one sequence over a connection that somebody else owns: Want and Gather become subscriptions and a deadline.

A driver calls ``start``, ``received``, ``tick`` and ``disconnected`` / ``connected``, carries out the commands it gets
back, and asks ``deadline`` when to call ``tick`` next. Times are seconds on any monotonic clock. A Perform goes out
as a command like the others; its outcome comes back through ``performed``, connected or not.

A lost connection does not end a sequence: its patience stands still and what it wants is asked for again afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from protocol.sequences import Gather, Pause, Perform, Program, Want

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe at QoS 0."""

    topic: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The message is here, or nobody waits for it any more."""

    topic: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish at QoS 1."""

    topic: str
    payload: bytes


Command = Subscribe | Unsubscribe | Publish | Perform


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The sequence, or the work performed for it, returned ``value`` or raised ``error``."""

    value: T | None = None
    error: BaseException | None = None


class Exchange(Generic[T]):
    """One running sequence. ``done`` is None until it ends."""

    def __init__(self, sequence: Program[T]) -> None:
        self._sequence = sequence
        self._step: Want | Gather | Pause | Perform | None = None
        self._deadline: float | None = None
        self._connected = False
        self._open: dict[str, int] = {}
        """Topics that are subscribed, with the longest payload each may bring."""
        self.done: Done[T] | None = None

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due; None when nothing is waited for."""
        return self._deadline

    def start(self, now: float, *, connected: bool) -> list[Command]:
        """Run to the first thing the sequence needs."""
        self._connected = connected
        return self._advance(None, now)

    def received(self, topic: str, payload: bytes, now: float) -> list[Command]:
        """A message came in; ignored when it is not one wanted (a late duplicate, or longer than allowed)."""
        if not payload or len(payload) > self._open.get(topic, 0):
            return []
        del self._open[topic]
        value = payload if isinstance(self._step, Want) else (topic, payload)
        return [Unsubscribe(topic), *self._advance(value, now)]

    def performed(self, work: Perform, outcome: Done[object], now: float) -> list[Command]:
        """The work is done; ignored when nobody waits for it any more."""
        if work is not self._step:
            return []
        if outcome.error is not None:
            return self._advance(None, now, outcome.error)
        return self._advance(outcome.value, now)

    def tick(self, now: float) -> list[Command]:
        """Time has passed."""
        if self._deadline is None or now < self._deadline:
            return []
        # What was silent is asked for anew, even if the next step names it again: only a new subscription brings it.
        return [*self._leave(), *self._advance(None, now)]

    def disconnected(self) -> None:
        """The connection is gone, subscriptions with it."""
        self._connected = False
        self._open.clear()
        if isinstance(self._step, Want | Gather):
            self._deadline = None

    def connected(self, now: float) -> list[Command]:
        """There is a (new) connection: ask again for what was open."""
        self._connected = True
        self._open.clear()
        return self._ask(now) if isinstance(self._step, Want | Gather) else []

    def cancel(self) -> list[Command]:
        """Nobody needs the result any more."""
        self._step, self._deadline = None, None
        self._sequence.close()
        return self._leave()

    def _advance(self, value: object, now: float, error: BaseException | None = None) -> list[Command]:
        try:
            self._step = self._sequence.throw(error) if error is not None else self._sequence.send(value)
        except StopIteration as stop:
            return self._end(Done(value=stop.value))
        except Exception as raised:
            return self._end(Done(error=raised))
        return self._ask(now)

    def _ask(self, now: float) -> list[Command]:
        match self._step:
            case Pause(seconds):
                self._deadline = now + seconds
                return self._leave()
            case Perform() as work:
                self._deadline = None
                return [*self._leave(), work]
            case Want(topic, limit, timeout_s):
                return self._subscribe({topic: limit}, now + timeout_s)
            case Gather(limits, timeout_s):
                return self._subscribe(limits, now + timeout_s)
        return []

    def _subscribe(self, limits: Mapping[str, int], deadline: float) -> list[Command]:
        """Be subscribed to exactly these topics."""
        if not self._connected:
            self._deadline = None
            return []
        self._deadline = deadline
        gone = [topic for topic in self._open if topic not in limits]
        new = [topic for topic in limits if topic not in self._open]
        self._open = dict(limits)
        return [*map(Unsubscribe, gone), *map(Subscribe, new)]

    def _leave(self) -> list[Command]:
        gone, self._open = self._open, {}
        return [Unsubscribe(topic) for topic in gone]

    def _end(self, done: Done[T]) -> list[Command]:
        self._step, self._deadline, self.done = None, None, done
        return self._leave()
