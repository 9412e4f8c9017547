"""Runs one sequence over a connection that somebody else owns: Want becomes subscribe, unsubscribe and a deadline.

A driver calls ``start``, ``received``, ``tick`` and ``disconnected`` / ``connected``, carries out the commands it gets
back, and asks ``deadline`` when to call ``tick`` next. Times are seconds on any monotonic clock. A Perform goes out
as a command like the others; its outcome comes back through ``performed``, connected or not.

A lost connection does not end a sequence: its patience stands still and the open Want is asked again afterwards.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from protocol.sequences import Pause, Perform, Program, Want

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
        self._step: Want | Pause | Perform | None = None
        self._deadline: float | None = None
        self._connected = False
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
        """A message came in; ignored when it is not the one wanted (a late duplicate, or longer than allowed)."""
        step = self._step
        if not isinstance(step, Want) or topic != step.topic or len(payload) > step.limit or not payload:
            return []
        return [Unsubscribe(topic), *self._advance(payload, now)]

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
        step = self._step
        gone: list[Command] = [Unsubscribe(step.topic)] if isinstance(step, Want) else []
        return [*gone, *self._advance(None, now)]

    def disconnected(self) -> None:
        """The connection is gone, subscriptions with it."""
        self._connected = False
        if isinstance(self._step, Want):
            self._deadline = None

    def connected(self, now: float) -> list[Command]:
        """There is a (new) connection: ask again for what was open."""
        self._connected = True
        return self._ask(now) if isinstance(self._step, Want) else []

    def cancel(self) -> list[Command]:
        """Nobody needs the result any more."""
        step, self._step, self._deadline = self._step, None, None
        self._sequence.close()
        return [Unsubscribe(step.topic)] if isinstance(step, Want) and self._connected else []

    def _advance(self, value: object, now: float, error: BaseException | None = None) -> list[Command]:
        try:
            self._step = self._sequence.throw(error) if error is not None else self._sequence.send(value)
        except StopIteration as stop:
            self._end(Done(value=stop.value))
            return []
        except Exception as raised:
            self._end(Done(error=raised))
            return []
        return self._ask(now)

    def _ask(self, now: float) -> list[Command]:
        step = self._step
        if isinstance(step, Pause):
            self._deadline = now + step.seconds
            return []
        if isinstance(step, Perform):
            self._deadline = None
            return [step]
        if step is None or not self._connected:
            self._deadline = None
            return []
        self._deadline = now + step.timeout_s
        return [Subscribe(step.topic)]

    def _end(self, done: Done[T]) -> None:
        self._step, self._deadline, self.done = None, None, done
