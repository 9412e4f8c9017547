"""What a frame reads from the repository and in which order, without I/O.

A sequence is a generator. It yields what it needs next and is sent what came back:

    data = yield Want(topic, limit, timeout_s)   # bytes, or None when nothing came in time
    came = yield Gather(limits, timeout_s)       # (topic, bytes) of any of these topics, or None
    yield Pause(seconds)
    result = yield Perform(call)                 # only in a Program: slow work, done beside the loop

``protocol.exchange`` turns that into subscriptions and deadlines; agent (paho) and simulator (asyncio) only move
bytes. MQTT has no "not found": silence is retried a bounded number of times with capped, jittered backoff and then
refused, so nothing downloads for ever. Objects are fetched by ``protocol.fetching``.
"""

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from protocol import topics
from protocol.codec import decode
from protocol.errors import Reason, Refused
from protocol.limits import MAX_DOCUMENT, MAX_MESSAGE, MAX_ROOT_STEPS
from protocol.messages import RepoHead
from protocol.repository import DIRECTOR_ROOT

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Want:
    """Subscribe to exactly this topic at QoS 0 and give me its next message, or None after ``timeout_s``."""

    topic: str
    limit: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Gather:
    """Subscribe to exactly these topics at QoS 0 (each with the longest payload to take) and give me the next message
    of any of them as (topic, payload), or None after ``timeout_s`` without one.

    Those that the next step asks for again stay subscribed.
    """

    limits: Mapping[str, int]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Come back after this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Perform:
    """Make this slow call away from the loop and send me what it returns; what it raises is raised here.

    The object itself is the token by which its outcome comes back, so each one is used once.
    """

    work: Callable[[], object]


Sequence = Generator[Want | Pause, bytes | None, T]
Program = Generator[Want | Gather | Pause | Perform, Any, T]
"""A sequence that also has work performed; every Sequence is one."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long silence is borne: ``tries`` for one document or chunk, backing off from 1 s to 60 s; the patience of
    each try doubles from ``timeout_s`` to ``max_timeout_s``. ``object_tries`` bounds what all chunks of one object may
    cost beyond their first try, so that a broker that answers late each time cannot keep a frame busy for ever."""

    tries: int = 8
    wrong_bytes_tries: int = 3
    object_tries: int = 100
    timeout_s: float = 5.0
    max_timeout_s: float = 20.0
    first_backoff_s: float = 1.0
    max_backoff_s: float = 60.0

    def backoff(self, attempt: int) -> float:
        """Seconds before try ``attempt`` + 1: doubled each time, capped, and drawn from the upper half at random so
        that thousands of frames do not come back together."""
        ceiling = min(self.max_backoff_s, self.first_backoff_s * 2.0**attempt)
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311  jitter needs no secrecy

    def longer(self, timeout_s: float) -> float:
        """The patience after one of ``timeout_s`` was not enough: a slow link needs more."""
        return min(self.max_timeout_s, 2.0 * timeout_s)


DEFAULT_RETRY = RetryPolicy()


class Trust(Protocol):
    """The frame's TUF client without I/O: it is given documents in TUF's order and says which it needs.

    Every method raises Refused when a document must not be trusted.
    """

    def root_version(self, chain: str) -> int:
        """Version of the trusted root of ``chain`` ("root" or "director-root")."""

    def update_root(self, chain: str, document: bytes) -> None:
        """The next root of that chain."""

    def begin(self) -> None:
        """The roots are up to date: check their expiry and start on the online roles."""

    def needed(self, role: str) -> int | None:
        """Version of ``role`` that is still needed after what has been given, None when the stored one will do."""

    def update(self, role: str, document: bytes) -> None:
        """Take the document of ``role``."""


def _get(topic: str, limit: int, retry: RetryPolicy, what: str) -> Sequence[bytes]:
    timeout_s = retry.timeout_s
    for attempt in range(retry.tries):
        data = yield Want(topic, limit, timeout_s)
        if data is not None:
            return data
        timeout_s = retry.longer(timeout_s)
        if attempt + 1 < retry.tries:
            yield Pause(retry.backoff(attempt))
    raise never_came(what, retry.tries)


def never_came(what: str, tries: int) -> Refused:
    """The refusal of something that was asked for ``tries`` times."""
    return Refused(
        Reason.NOT_AVAILABLE,
        f"The {what} did not come in {tries} tries: check that the backend has published it.",
    )


def refresh(trust: Trust, delegated: list[str], retry: RetryPolicy = DEFAULT_RETRY) -> Sequence[None]:
    """Bring the frame's view of the repository up to date, in TUF's order: both roots step by step, timestamp,
    snapshot, targets, then the ``delegated`` roles. Raises Refused."""
    head = decode((yield from _get(topics.REPO_HEAD, MAX_MESSAGE, retry, "repository head")), RepoHead)
    for chain, newest in (("root", head.root), (DIRECTOR_ROOT, head.director_root)):
        first = trust.root_version(chain) + 1
        for version in range(first, min(newest, first + MAX_ROOT_STEPS - 1) + 1):
            trust.update_root(chain, (yield from _document(chain, version, retry)))
    trust.begin()
    trust.update("timestamp", (yield from _document("timestamp", head.timestamp, retry)))
    for role in ("snapshot", "targets", *delegated):
        needed = trust.needed(role)
        if needed is not None:
            trust.update(role, (yield from _document(role, needed, retry)))


def _document(role: str, version: int, retry: RetryPolicy) -> Sequence[bytes]:
    return (yield from _get(topics.meta_topic(role, version), MAX_DOCUMENT, retry, f"{role} document {version}"))
