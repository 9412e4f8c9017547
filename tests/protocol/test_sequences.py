"""What a frame reads of the repository, in which order, and how long it is patient."""

from collections.abc import Callable, Generator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocol import topics
from protocol.codec import encode
from protocol.messages import RepoHead
from protocol.sequences import RetryPolicy, refresh


def run(sequence: Generator[Any, Any, Any], answer: Callable[[str], bytes | None]) -> list[str]:
    """Topics asked for, in order."""
    asked: list[str] = []
    value: bytes | None = None
    while True:
        try:
            step = sequence.send(value)
        except StopIteration:
            return asked
        asked.append(step.topic)
        value = answer(step.topic)


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
    asked = run(refresh(trust, []), lambda topic: head if topic == topics.REPO_HEAD else b"x")
    assert len(asked) == 1 + 256 + 1
