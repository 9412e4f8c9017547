"""What a frame reads, in which order, how long it is patient, and that it never trusts what does not hash."""

import hashlib
from collections.abc import Callable, Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import chunks, topics
from protocol.codec import encode
from protocol.errors import Reason, Refused
from protocol.limits import CHUNK_SIZE
from protocol.messages import RepoHead
from protocol.sequences import Pause, RetryPolicy, Want, fetch_object, refresh

QUICK = RetryPolicy(tries=3, wrong_bytes_tries=2)


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


def run(sequence: Generator[Any, Any, Any], answer: Callable[[str], bytes | None]) -> tuple[Any, list[str], float]:
    """Result, topics asked for in order, and seconds paused."""
    asked: list[str] = []
    paused = 0.0
    value: bytes | None = None
    while True:
        try:
            step = sequence.send(value)
        except StopIteration as stop:
            return stop.value, asked, paused
        match step:
            case Want(topic):
                asked.append(topic)
                value = answer(topic)
            case Pause(seconds):
                paused += seconds
                value = None


def published(data: bytes) -> tuple[chunks.ChunkIndex, dict[str, bytes]]:
    index = chunks.build_index([data])
    parts = dict(zip(index.chunk_hashes, chunks.split(data), strict=True)) | index.index_chunks
    return index, {topics.chunk_topic(name): part for name, part in parts.items()}


OBJECT = hashlib.shake_256(b"object").digest(180_000)


@given(st.integers(1, 4 * CHUNK_SIZE), st.integers(0, 5))
def test_an_object_arrives_whole_and_only_what_is_missing_is_fetched(length: int, already: int) -> None:
    data = (OBJECT * 2)[:length]
    index, retained = published(data)
    held = chunks.split(data)[:already]
    sink = MemorySink(index.sha256, list(held))
    transferred, asked, _ = run(fetch_object(index.root, index.sha256, length, sink), retained.get)
    assert sink.finished
    assert b"".join(sink.held) == data
    assert transferred == length - sum(map(len, held))
    assert len(asked) == len(index.index_chunks) + len(index.chunk_hashes) - len(held)


def test_silence_is_borne_a_bounded_number_of_times_with_growing_pauses() -> None:
    index, _ = published(OBJECT)
    sink = MemorySink(index.sha256)
    asked: list[str] = []

    def silent(topic: str) -> None:
        asked.append(topic)

    with pytest.raises(Refused) as refusal:
        run(fetch_object(index.root, index.sha256, len(OBJECT), sink, QUICK), silent)
    assert refusal.value.reason is Reason.NOT_AVAILABLE
    assert len(asked) == QUICK.tries


def test_a_chunk_with_wrong_bytes_is_asked_for_again_and_then_refused() -> None:
    index, retained = published(OBJECT)
    bad = topics.chunk_topic(index.chunk_hashes[1])
    tampered = retained | {bad: retained[bad][:-1] + b"!"}
    sink = MemorySink(index.sha256)
    with pytest.raises(Refused) as refusal:
        run(fetch_object(index.root, index.sha256, len(OBJECT), sink, QUICK), tampered.get)
    assert refusal.value.reason is Reason.TAMPERED_CHUNK
    assert sink.held == chunks.split(OBJECT)[:1]
    assert not sink.finished


def test_a_target_without_an_index_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(Refused, match="no chunk index"):
        run(fetch_object(None, "ab" * 32, CHUNK_SIZE + 1, MemorySink("")), lambda topic: None)


@given(st.integers(0, 40))
def test_backoff_grows_is_capped_and_jittered(attempt: int) -> None:
    policy = RetryPolicy()
    ceiling = min(policy.max_backoff_s, policy.first_backoff_s * 2**attempt)
    assert ceiling / 2 <= policy.backoff(attempt) <= ceiling


class RecordingTrust:
    def __init__(self, roots: dict[str, int], stored: dict[str, int]) -> None:
        self.roots, self.stored, self.log = roots, stored, list[str]()

    def root_version(self, chain: str) -> int:
        return self.roots[chain]

    def update_root(self, chain: str, document: bytes) -> None:
        self.log.append(document.decode())

    def begin(self) -> None:
        self.log.append("begin")

    def needed(self, role: str) -> int | None:
        return self.stored.get(role)

    def update(self, role: str, document: bytes) -> None:
        self.log.append(document.decode())


def test_documents_are_taken_in_tufs_order_and_only_when_needed() -> None:
    head = encode(RepoHead(root=3, timestamp=9, director_root=1))
    trust = RecordingTrust({"root": 1, "director-root": 1}, {"snapshot": 8, "targets": None, "lora": 4})  # type: ignore[dict-item]

    def answer(topic: str) -> bytes:
        return head if topic == topics.REPO_HEAD else topic.removeprefix("repo/meta/").encode()

    run(refresh(trust, ["base", "lora"]), answer)
    assert trust.log == ["root/2", "root/3", "begin", "timestamp/9", "snapshot/8", "lora/4"]


def test_a_head_that_promises_endless_roots_is_followed_a_bounded_way() -> None:
    head = encode(RepoHead(root=10**9, timestamp=1, director_root=1))
    trust = RecordingTrust({"root": 1, "director-root": 1}, {})
    _, asked, _ = run(refresh(trust, []), lambda topic: head if topic == topics.REPO_HEAD else b"x")
    assert len(asked) == 1 + 256 + 1
