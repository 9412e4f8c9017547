"""How chunks of an object come here: verified, resumed, bounded, several at a time until something goes wrong."""

import hashlib
from collections.abc import Callable, Generator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import chunks, topics
from protocol.errors import Reason, Refused
from protocol.fetching import CALM, RANGE_FAULTS, NoRange, Way, fetch_object
from protocol.limits import CHUNK_SIZE
from protocol.sequences import Gather, Pause, Perform, RetryPolicy, Want

QUICK = RetryPolicy(tries=3, wrong_bytes_tries=2)
OBJECT = hashlib.shake_256(b"object").digest(180_000)
LONG = hashlib.shake_256(b"long").digest(70 * CHUNK_SIZE + 5)


class MemorySink:
    def __init__(self, sha256: str, held: list[bytes] | None = None) -> None:
        self.sha256 = sha256
        self.held = held or []
        self.finished = False

    def resume(self, chunk_hashes: list[str]) -> int:
        good = 0
        while good < len(self.held) and chunks.sha256_hex(self.held[good]) == chunk_hashes[good]:
            good += 1
        del self.held[good:]
        return good

    def append(self, chunk: bytes) -> None:
        self.held.append(chunk)

    def finish(self) -> None:
        assert chunks.sha256_hex(b"".join(self.held)) == self.sha256
        self.finished = True


class Broker:
    """Answers what is subscribed; ``answer`` gives a topic's payload, ``pick`` which of several comes first."""

    def __init__(
        self, answer: Callable[[str], bytes | None], pick: Callable[[list[str]], str] = lambda found: found[0]
    ) -> None:
        self.answer = answer
        self.pick = pick
        self.asked: list[str] = []
        self.at_a_time: list[int] = []
        self.paused = 0.0
        self.waited = 0.0

    def run(self, sequence: Generator[Any, Any, Any]) -> Any:
        value: Any = None
        error: BaseException | None = None
        open_: set[str] = set()
        while True:
            try:
                step = sequence.throw(error) if error is not None else sequence.send(value)
            except StopIteration as stop:
                return stop.value
            value, error = None, None
            match step:
                case Want(topic, _, timeout_s):
                    self.asked.append(topic)
                    self.at_a_time.append(1)
                    value = self.answer(topic)
                    self.waited += timeout_s if value is None else 0.0
                    open_ = set()
                case Gather(limits, timeout_s):
                    self.asked += [topic for topic in limits if topic not in open_]
                    self.at_a_time.append(len(limits))
                    found = [topic for topic in limits if self.answer(topic) is not None]
                    self.waited += 0.0 if found else timeout_s
                    topic = self.pick(found) if found else ""
                    value = (topic, self.answer(topic)) if found else None
                    open_ = set(limits) - {topic} if found else set()
                case Pause(seconds):
                    self.paused += seconds
                    open_ = set()
                case Perform(work):
                    open_ = set()
                    try:
                        value = work()
                    except Exception as raised:
                        error = raised


def published(data: bytes) -> tuple[chunks.ChunkIndex, dict[str, bytes]]:
    index = chunks.build_index([data])
    parts = dict(zip(index.chunk_hashes, chunks.split(data), strict=True)) | index.index_chunks
    return index, {topics.chunk_topic(name): part for name, part in parts.items()}


def fetch(index: chunks.ChunkIndex, sink: MemorySink, retry: RetryPolicy = QUICK, **how: Any) -> Any:
    return fetch_object(index.root, index.sha256, index.length, sink, retry, Way(**how))


@settings(deadline=None)  # a busy machine hashes slowly
@given(st.integers(1, 4 * CHUNK_SIZE), st.integers(0, 5), st.integers(1, 6), st.randoms(use_true_random=False))
def test_an_object_arrives_whole_and_only_what_is_missing_is_fetched(
    length: int, already: int, window: int, order: Any
) -> None:
    data = (OBJECT * 2)[:length]
    index, retained = published(data)
    held = chunks.split(data)[:already]
    sink = MemorySink(index.sha256, list(held))
    broker = Broker(retained.get, order.choice)
    transferred = broker.run(fetch(index, sink, window=window))
    assert sink.finished
    assert b"".join(sink.held) == data
    assert transferred == length - sum(map(len, held))
    assert len(broker.asked) == len(index.index_chunks) + len(index.chunk_hashes) - len(held)
    assert max(broker.at_a_time, default=0) <= window


def test_chunks_that_are_alike_are_asked_for_once_a_window() -> None:
    data = bytes(10 * CHUNK_SIZE) + b"end"
    index, retained = published(data)
    sink = MemorySink(index.sha256)
    Broker(retained.get).run(fetch(index, sink))
    assert sink.finished


def test_silence_is_borne_a_bounded_number_of_times_with_growing_patience() -> None:
    index, _ = published(OBJECT)
    broker = Broker(lambda topic: None)
    with pytest.raises(Refused) as refusal:
        broker.run(fetch(index, MemorySink(index.sha256)))
    assert refusal.value.reason is Reason.NOT_AVAILABLE
    assert len(broker.asked) == QUICK.tries
    assert broker.waited == 5.0 + 10.0 + 20.0


@pytest.mark.parametrize("missing", [0, 2, 40, 70])
def test_a_chunk_that_never_comes_stops_the_download_after_so_many_tries(missing: int) -> None:
    index, retained = published(LONG)
    topic = topics.chunk_topic(index.chunk_hashes[missing])
    broker = Broker(lambda asked: None if asked == topic else retained[asked])
    sink = MemorySink(index.sha256)
    with pytest.raises(Refused) as refusal:
        broker.run(fetch(index, sink))
    assert refusal.value.reason is Reason.NOT_AVAILABLE
    assert QUICK.tries <= broker.asked.count(topic) <= QUICK.tries + 1
    assert len(sink.held) == missing


@pytest.mark.parametrize("bad", [0, 1, 2, 60])
def test_a_chunk_with_wrong_bytes_is_asked_for_again_and_then_refused(bad: int) -> None:
    index, retained = published(LONG)
    topic = topics.chunk_topic(index.chunk_hashes[bad])
    broker = Broker((retained | {topic: retained[topic][:-1] + b"!"}).get)
    sink = MemorySink(index.sha256)
    with pytest.raises(Refused) as refusal:
        broker.run(fetch(index, sink))
    assert refusal.value.reason is Reason.TAMPERED_CHUNK
    assert broker.asked.count(topic) == QUICK.wrong_bytes_tries
    assert len(sink.held) == bad
    assert not sink.finished


def test_after_something_went_wrong_chunks_come_one_by_one_for_a_while() -> None:
    index, retained = published(LONG)
    lost = topics.chunk_topic(index.chunk_hashes[10])

    def once_lost(topic: str) -> bytes | None:
        return None if topic == lost and not broker.waited else retained[topic]

    broker = Broker(once_lost)
    sink = MemorySink(index.sha256)
    broker.run(fetch(index, sink))
    assert sink.finished
    before, calm, after = "".join(map(str, broker.at_a_time)).partition("1" * CALM)
    assert calm
    assert "4" in before
    assert "4" in after


def test_a_broker_that_answers_every_chunk_late_is_given_up() -> None:
    """Each chunk comes on the last try that would be borne: without a bound on all of them that takes for ever."""
    index, retained = published(LONG)
    retry = RetryPolicy(tries=8, object_tries=20)
    tries: dict[str, int] = {}

    def late(topic: str) -> bytes | None:
        tries[topic] = tries.get(topic, 0) + 1
        return retained[topic] if tries[topic] % 7 == 0 else None

    broker = Broker(late)
    with pytest.raises(Refused, match="20 chunks came late or not at all") as refusal:
        broker.run(fetch(index, MemorySink(index.sha256), retry, window=1))
    assert refusal.value.reason is Reason.NOT_AVAILABLE
    assert len(broker.asked) <= 2 * retry.object_tries


def test_a_target_without_an_index_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(Refused, match="no chunk index"):
        Broker(lambda topic: None).run(fetch_object(None, "ab" * 32, CHUNK_SIZE + 1, MemorySink("")))


class Kept:
    def __init__(self) -> None:
        self.chunks: dict[str, bytes] = {}

    def load(self, sha256: str) -> bytes | None:
        return self.chunks.get(sha256)

    def save(self, sha256: str, chunk: bytes) -> None:
        self.chunks[sha256] = chunk


def test_the_index_of_a_long_object_is_fetched_once_whatever_is_cut() -> None:
    index, retained = published(LONG)
    kept = Kept()
    first = Broker(lambda topic: retained[topic] if topic.endswith(str(index.root)) else None)
    with pytest.raises(Refused):
        first.run(fetch(index, MemorySink(index.sha256), indexes=kept))
    assert set(kept.chunks) == set(index.index_chunks)
    again = Broker(retained.get)
    again.run(fetch(index, MemorySink(index.sha256), indexes=kept))
    assert not {topics.chunk_topic(name) for name in index.index_chunks} & set(again.asked)


class Served:
    """A second source; ``faulty`` says at which requests it fails and how."""

    def __init__(self, data: bytes, faulty: dict[int, str] | None = None) -> None:
        self.data = data
        self.faulty = faulty or {}
        self.requests = 0

    def read(self, sha256: str, offset: int, length: int) -> bytes:
        del sha256
        self.requests += 1
        data = self.data[offset : offset + length]
        match self.faulty.get(self.requests):
            case "none":
                raise NoRange("it is away")
            case "wrong":
                return data[:CHUNK_SIZE] + bytes(len(data) - CHUNK_SIZE)
            case "short":
                return data[:-1]
        return data

    def close(self) -> None: ...


def test_what_the_second_source_gives_is_not_asked_of_the_broker() -> None:
    index, retained = published(LONG)
    broker, served, sink = Broker(retained.get), Served(LONG), MemorySink(index.sha256)
    broker.run(fetch(index, sink, ranges=served))
    assert sink.finished
    assert set(broker.asked) == {topics.chunk_topic(name) for name in index.index_chunks}
    assert served.requests == 5


@pytest.mark.parametrize("fault", ["none", "wrong", "short"])
def test_a_chunk_the_second_source_does_not_give_comes_from_the_broker(fault: str) -> None:
    index, retained = published(LONG)
    broker, served, sink = Broker(retained.get), Served(LONG, {2: fault}), MemorySink(index.sha256)
    broker.run(fetch(index, sink, ranges=served))
    assert sink.finished
    assert len(broker.asked) == len(index.index_chunks) + 1


def test_a_second_source_that_fails_again_and_again_is_left_alone() -> None:
    index, retained = published(LONG)
    broker, served, sink = (
        Broker(retained.get),
        Served(LONG, dict.fromkeys(range(99), "none")),
        MemorySink(index.sha256),
    )
    broker.run(fetch(index, sink, ranges=served))
    assert sink.finished
    assert served.requests == RANGE_FAULTS


class Budget:
    def __init__(self, length: int) -> None:
        self.left = length
        self.told: list[float] = []

    def wait(self, length: int) -> float:
        return 0.0 if length <= self.left else 1_000.0

    def waits(self, seconds: float) -> None:
        self.told.append(seconds)
        if self.told == [1_000.0, 1_000.0]:
            self.left = 10**9

    def took(self, length: int) -> None:
        self.left -= length


@pytest.mark.parametrize("ranges", [None, Served(LONG)])
def test_nothing_is_asked_for_beyond_the_budget(ranges: Served | None) -> None:
    index, retained = published(LONG)
    budget, broker, sink = Budget(20 * CHUNK_SIZE), Broker(retained.get), MemorySink(index.sha256)
    broker.run(fetch(index, sink, meter=budget, ranges=ranges))
    assert sink.finished
    assert broker.paused == 600.0, "it looks again every 300 s"
    assert budget.told == [1_000.0, 1_000.0, 0.0]
