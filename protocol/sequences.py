"""What a frame reads from the repository and in which order, without I/O.

A sequence is a generator. It yields what it needs next and is sent what came back:

    data = yield Want(topic, limit, timeout_s)   # bytes, or None when nothing came in time
    yield Pause(seconds)
    result = yield Perform(call)                 # only in a Program: slow work, done beside the loop

``protocol.exchange`` turns that into subscriptions and deadlines; agent (paho) and simulator (asyncio) only move
bytes. MQTT has no "not found": silence is retried a bounded number of times with capped, jittered backoff and then
refused, so nothing downloads for ever.
"""

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from protocol import chunks, topics
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
Program = Generator[Want | Pause | Perform, Any, T]
"""A sequence that also has work performed; every Sequence is one."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long silence is borne. Defaults: 8 tries, from 5 s patience, backing off from 1 s to 60 s."""

    tries: int = 8
    wrong_bytes_tries: int = 3
    timeout_s: float = 5.0
    first_backoff_s: float = 1.0
    max_backoff_s: float = 60.0

    def backoff(self, attempt: int) -> float:
        """Seconds before try ``attempt`` + 1: doubled each time, capped, and drawn from the upper half at random so
        that thousands of frames do not come back together."""
        ceiling = min(self.max_backoff_s, self.first_backoff_s * 2.0**attempt)
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311  jitter needs no secrecy


DEFAULT_RETRY = RetryPolicy()


class ObjectSink(Protocol):
    """Where the chunks of one object go, in order. What was kept before a cut is kept."""

    def resume(self, chunk_hashes: list[str]) -> int:
        """How many leading chunks are already there and hash as they should; anything after them is discarded."""

    def append(self, chunk: bytes) -> None:
        """Keep the next chunk. Raises Refused(DISK_FULL) when it cannot."""

    def finish(self) -> None:
        """All chunks are there: check the whole object's hash and keep it under its name. Raises Refused."""


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
    for attempt in range(retry.tries):
        data = yield Want(topic, limit, retry.timeout_s)
        if data is not None:
            return data
        if attempt + 1 < retry.tries:
            yield Pause(retry.backoff(attempt))
    raise Refused(
        Reason.NOT_AVAILABLE,
        f"The {what} did not come in {retry.tries} tries: check that the backend has published it.",
    )


def fetch_chunk(sha256: str, length: int, retry: RetryPolicy = DEFAULT_RETRY) -> Sequence[bytes]:
    """One chunk, verified. Raises Refused(TAMPERED_CHUNK) when it keeps coming with the wrong bytes."""
    for attempt in range(retry.wrong_bytes_tries):
        data = yield from _get(topics.chunk_topic(sha256), length, retry, f"chunk {sha256[:12]}")
        if len(data) == length and chunks.sha256_hex(data) == sha256:
            return data
        if attempt + 1 < retry.wrong_bytes_tries:
            yield Pause(retry.backoff(attempt))
    raise Refused(
        Reason.TAMPERED_CHUNK,
        f"Chunk {sha256[:12]} does not hash to its name: publish the artifact again from a clean copy.",
    )


def fetch_index(root: str | None, sha256: str, length: int, retry: RetryPolicy = DEFAULT_RETRY) -> Sequence[list[str]]:
    """Hashes of all chunks of the object. ``root`` is from the signed target."""
    if chunks.chunk_count(length) == 1:
        return [sha256]
    if root is None:
        raise Refused(Reason.BAD_MESSAGE, "The signed target names no chunk index: push the release again.")
    hashes = [root]
    for index_length in chunks.index_lengths(length):
        index = bytearray()
        for number, chunk in enumerate(hashes):
            index += yield from fetch_chunk(chunk, chunks.chunk_length(index_length, number), retry)
        hashes = chunks.digests(bytes(index))
    return hashes


def fetch_object(
    root: str | None, sha256: str, length: int, sink: ObjectSink, retry: RetryPolicy = DEFAULT_RETRY
) -> Sequence[int]:
    """Bring one object into ``sink``, one chunk at a time, going on where it was cut. Returns the bytes transferred."""
    hashes = yield from fetch_index(root, sha256, length, retry)
    transferred = 0
    for number in range(sink.resume(hashes), len(hashes)):
        chunk = yield from fetch_chunk(hashes[number], chunks.chunk_length(length, number), retry)
        sink.append(chunk)
        transferred += len(chunk)
    sink.finish()
    return transferred


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
