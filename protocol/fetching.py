"""How a frame brings an object here chunk by chunk, without I/O: over MQTT, or from a second source of the same bytes.

One exact topic for each chunk, a few of them at a time, every chunk verified by its hash and kept in order. After
silence or wrong bytes the next ``CALM`` chunks are asked for one by one. Each is asked for a bounded number of times,
and so are all of the object's together: nothing downloads for ever.
"""

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from protocol import chunks, topics
from protocol.errors import Reason, Refused
from protocol.limits import CHUNK_SIZE
from protocol.sequences import DEFAULT_RETRY, Gather, Pause, Perform, Program, RetryPolicy, Want, never_came

WINDOW = 4
"""Chunks asked for at a time."""
CALM = 32
"""Chunks that come one by one after something went wrong, before several are asked for at a time again."""
RUN = 16
"""Chunks that one request to the second source asks for."""
RANGE_FAULTS = 3
"""Faults of the second source after which this download does without it."""
SMALL = 64
"""Chunks up to which an object is checked and finished at once; longer ones keep the loop waiting, so it is done
beside it, and their index is kept."""


class NoRange(Exception):
    """The second source did not give the bytes: one sentence that says why."""


class ObjectSink(Protocol):
    """Where the chunks of one object go, in order. What was kept before a cut is kept."""

    def resume(self, chunk_hashes: list[str]) -> int:
        """How many leading chunks are already there and hash as they should; what is after them does not count.
        Changes nothing, and may be called in a thread of its own."""

    def append(self, chunk: bytes) -> None:
        """Keep the next chunk. Raises Refused(DISK_FULL) when it cannot."""

    def finish(self) -> None:
        """All chunks are there: check the whole object's hash and keep it under its name. Raises Refused. May be called
        in a thread of its own."""


class Meter(Protocol):
    """Says when chunks may be fetched, and is told how many bytes were."""

    def wait(self, length: int) -> float:
        """Seconds until ``length`` bytes more may be asked for; 0 for now. To be asked again then."""

    def waits(self, seconds: float) -> None:
        """The download begins to wait so long (0: goes on)."""

    def took(self, length: int) -> None:
        """So many bytes came in, good or not."""


class Ranges(Protocol):
    """A second source of the same objects."""

    def read(self, sha256: str, offset: int, length: int) -> bytes:
        """These bytes of the object, unverified. Slow, and called beside the loop. Raises NoRange."""

    def close(self) -> None:
        """Nothing more will be read."""


class IndexKeeper(Protocol):
    """Keeps chunks of indexes, so that going on after a cut fetches none again."""

    def load(self, sha256: str) -> bytes | None:
        """The chunk, verified; None when it is not there."""

    def save(self, sha256: str, chunk: bytes) -> None:
        """Keep it. Raises Refused(DISK_FULL)."""


class _Unmetered:
    def wait(self, length: int) -> float:
        del length
        return 0.0

    def waits(self, seconds: float) -> None:
        pass

    def took(self, length: int) -> None:
        pass


UNMETERED = _Unmetered()


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How objects come here: how many chunks at a time, when and how much, and from where besides MQTT."""

    window: int = WINDOW
    meter: Meter = UNMETERED
    ranges: Ranges | None = None
    indexes: IndexKeeper | None = None


PLAIN = Way()
MAX_PAUSE_S = 300.0
"""Who may not fetch looks again this often, because clocks are set and summer time begins."""


class _Patience:
    """What is left of it for one object; as many counts as ``object_tries`` allows."""

    def __init__(self, retry: RetryPolicy) -> None:
        self.retry = retry
        self.timeout_s = retry.timeout_s
        self._left = retry.object_tries
        self._silent: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()

    def silence(self, sha256: str) -> None:
        """The chunk did not come; whatever comes next may take longer. Raises Refused when that happened too often."""
        self.timeout_s = self.retry.longer(self.timeout_s)
        self._silent[sha256] += 1
        if self._silent[sha256] >= self.retry.tries:
            raise never_came(f"chunk {sha256[:12]}", self.retry.tries)
        self._spend()

    def wrong_bytes(self, sha256: str) -> None:
        """Other bytes came under its name. Raises Refused when that happened too often."""
        self._wrong[sha256] += 1
        if self._wrong[sha256] >= self.retry.wrong_bytes_tries:
            raise Refused(
                Reason.TAMPERED_CHUNK,
                f"Chunk {sha256[:12]} does not hash to its name: publish the artifact again from a clean copy.",
            )
        self._spend()

    def backoff(self, sha256: str) -> float | None:
        """Seconds before the chunk's next try, None for its first."""
        tries = self._silent[sha256] + self._wrong[sha256]
        return self.retry.backoff(tries - 1) if tries else None

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Refused(
                Reason.NOT_AVAILABLE,
                f"{self.retry.object_tries} chunks came late or not at all: check the broker and the line to it.",
            )


def _allowed(meter: Meter, length: int) -> Generator[Pause, None, None]:
    waited = False
    while (wait := meter.wait(length)) > 0:
        waited = True
        meter.waits(wait)
        yield Pause(min(wait, MAX_PAUSE_S))
    if waited:
        meter.waits(0.0)


def _chunk(sha256: str, length: int, patience: _Patience, meter: Meter) -> Program[bytes]:
    """One chunk, verified."""
    while True:
        if (pause := patience.backoff(sha256)) is not None:
            yield Pause(pause)
        yield from _allowed(meter, length)
        data: bytes | None = yield Want(topics.chunk_topic(sha256), length, patience.timeout_s)
        if data is None:
            patience.silence(sha256)
            continue
        meter.took(len(data))
        if _is_chunk(data, sha256, length):
            return data
        patience.wrong_bytes(sha256)


def _is_chunk(data: bytes, sha256: str, length: int) -> bool:
    return len(data) == length and chunks.sha256_hex(data) == sha256


def fetch_index(
    root: str | None, sha256: str, length: int, retry: RetryPolicy = DEFAULT_RETRY, way: Way = PLAIN
) -> Program[list[str]]:
    """Hashes of all chunks of the object. ``root`` is from the signed target."""
    return (yield from _index(root, sha256, length, _Patience(retry), way))


def _index(root: str | None, sha256: str, length: int, patience: _Patience, way: Way) -> Program[list[str]]:
    if chunks.chunk_count(length) == 1:
        return [sha256]
    if root is None:
        raise Refused(Reason.BAD_MESSAGE, "The signed target names no chunk index: push the release again.")
    keeper = way.indexes if chunks.chunk_count(length) > SMALL else None
    hashes = [root]
    for index_length in chunks.index_lengths(length):
        index = bytearray()
        for number, name in enumerate(hashes):
            chunk = keeper.load(name) if keeper is not None else None
            if chunk is None:
                chunk = yield from _chunk(name, chunks.chunk_length(index_length, number), patience, way.meter)
                if keeper is not None:
                    keeper.save(name, chunk)
            index += chunk
        hashes = chunks.digests(bytes(index))
    return hashes


def fetch_object(
    root: str | None,
    sha256: str,
    length: int,
    sink: ObjectSink,
    retry: RetryPolicy = DEFAULT_RETRY,
    way: Way = PLAIN,
) -> Program[int]:
    """Bring one object into ``sink``, going on where it was cut. Returns the bytes kept."""
    patience = _Patience(retry)
    hashes = yield from _index(root, sha256, length, patience, way)
    first: int = yield from _beside(len(hashes), lambda: sink.resume(hashes))
    yield from _Download(sha256, length, hashes, sink, patience, way, first).run()
    yield from _beside(len(hashes), sink.finish)
    return length - min(first * CHUNK_SIZE, length)


def _beside(count: int, work: Callable[[], object]) -> Program[Any]:
    """Do ``work`` beside the loop, if it is long."""
    return work() if count <= SMALL else (yield Perform(work))


class _Download:
    """The chunks of one object from ``number`` on."""

    def __init__(
        self,
        sha256: str,
        length: int,
        hashes: list[str],
        sink: ObjectSink,
        patience: _Patience,
        way: Way,
        number: int,
    ) -> None:
        self._sha256 = sha256
        self._length = length
        self._hashes = hashes
        self._sink = sink
        self._patience = patience
        self._way = way
        self._next = number
        self._one_by_one_until = 0
        self._faults = 0

    def run(self) -> Program[None]:
        while self._next < len(self._hashes):
            if self._way.ranges is not None and self._faults < RANGE_FAULTS:
                if not (yield from self._range(self._way.ranges)):
                    self._faults += 1
                    yield from self._one()
            elif self._way.window > 1 and self._next >= self._one_by_one_until:
                yield from self._several()
            else:
                yield from self._one()

    def _chunk_length(self, number: int) -> int:
        return chunks.chunk_length(self._length, number)

    def _keep(self, chunk: bytes) -> None:
        self._sink.append(chunk)
        self._next += 1

    def _one(self) -> Program[None]:
        length = self._chunk_length(self._next)
        self._keep((yield from _chunk(self._hashes[self._next], length, self._patience, self._way.meter)))

    def _several(self) -> Program[None]:
        """Keep a window of chunks asked for until everything is here or something goes wrong."""
        meter = self._way.meter
        early: dict[str, bytes] = {}
        while self._next < len(self._hashes):
            limits = self._window(early)
            if not limits:
                yield from _allowed(meter, self._chunk_length(self._next))
                continue
            came: tuple[str, bytes] | None = yield Gather(limits, self._patience.timeout_s)
            if came is None:
                self._one_by_one_until = self._next + CALM
                return self._patience.silence(self._hashes[self._next])
            topic, data = came
            meter.took(len(data))
            sha256 = topic.rpartition("/")[2]
            if not _is_chunk(data, sha256, limits[topic]):
                self._one_by_one_until = self._next + CALM
                return self._patience.wrong_bytes(sha256)
            early[sha256] = data
            while self._next < len(self._hashes) and (chunk := early.get(self._hashes[self._next])) is not None:
                self._keep(chunk)
            ahead = self._hashes[self._next : self._next + self._way.window]
            early = {name: chunk for name, chunk in early.items() if name in ahead}

    def _window(self, early: dict[str, bytes]) -> dict[str, int]:
        """Topics to be subscribed now, with their lengths. Empty when not even the next chunk may be fetched yet."""
        limits: dict[str, int] = {}
        asked = 0
        for number in range(self._next, min(self._next + self._way.window, len(self._hashes))):
            topic, length = topics.chunk_topic(self._hashes[number]), self._chunk_length(number)
            if self._hashes[number] in early or topic in limits:
                continue
            if self._way.meter.wait(asked + length) > 0:
                break
            limits[topic] = length
            asked += length
        return limits

    def _range(self, ranges: Ranges) -> Program[bool]:
        """The next few chunks from the second source. False when not all of them came, and came right."""
        last = min(self._next + RUN, len(self._hashes))
        lengths = [self._chunk_length(number) for number in range(self._next, last)]
        while len(lengths) > 1 and self._way.meter.wait(sum(lengths)) > 0:
            lengths.pop()
        yield from _allowed(self._way.meter, sum(lengths))
        offset = self._next * CHUNK_SIZE
        try:
            data: bytes = yield Perform(partial(ranges.read, self._sha256, offset, sum(lengths)))
        except NoRange:
            return False
        self._way.meter.took(len(data))
        for at, length in enumerate(lengths):
            chunk = data[at * CHUNK_SIZE :][:length]
            if not _is_chunk(chunk, self._hashes[self._next], length):
                return False
            self._keep(chunk)
        return True
