"""A pushed release becomes retained messages, in an order that no frame can trip over."""

from pathlib import Path
from typing import Any

import pytest

from ota import publication, repository
from ota.models import Release, RetainedObject
from ota.services import director
from protocol import topics
from protocol.chunks import index_lengths, sha256_hex
from protocol.codec import decode
from protocol.fetching import Way, fetch_object
from protocol.messages import RepoHead
from protocol.sequences import refresh
from tests.ota.offline import File, Offline, file
from tests.ota.world import BASE, Enrol, publish_all, push

pytestmark = pytest.mark.django_db


def kind_of(topic: str) -> int:
    if topic.startswith("frames/"):
        return 3
    return {"chunk": 0, "meta": 1, "head": 2}[topic.split("/")[1]]


def test_chunks_come_before_documents_before_the_head_before_desired_states(
    release_1_1: Release, frames: Enrol
) -> None:
    director.set_desired(frames(3), release_1_1)

    kinds = [kind_of(one.topic) for one in publish_all()]

    assert kinds == sorted(kinds)
    assert set(kinds) == {0, 1, 2, 3}


def test_the_head_waits_until_the_broker_has_answered_for_everything_before(release_1_0: Release) -> None:
    batch = publication.pending(1000)
    assert {kind_of(one.topic) for one in batch} == {0}
    publication.mark_published([one.token for one in batch[1:]])
    assert [one.topic for one in publication.pending(1000)] == [batch[0].topic]


def test_every_chunk_hashes_to_its_topic_and_the_chunks_make_up_the_artifact(release_1_0: Release) -> None:
    chunks = {one.topic: one.payload for one in publish_all() if kind_of(one.topic) == 0}

    for topic, payload in chunks.items():
        assert topic == topics.chunk_topic(sha256_hex(payload))
    root = release_1_0.artifacts.get(kind="base_model").index_root
    index = chunks[topics.chunk_topic(root)]
    assert len(index) == index_lengths(len(BASE))[0]
    rebuilt = b"".join(chunks[topics.chunk_topic(index[at : at + 32].hex())] for at in range(0, len(index), 32))
    assert rebuilt == BASE


def test_a_frame_finds_everything_the_release_needs_among_the_messages(release_1_1: Release, offline: Offline) -> None:
    """The frame's own sequences, answered from what was published."""
    retained = {one.topic: one.payload for one in publish_all()}

    class Seen:
        def __init__(self) -> None:
            self.roles: list[str] = []

        def root_version(self, chain: str) -> int:
            return 1

        def update_root(self, chain: str, document: bytes) -> None:
            raise AssertionError("there is no second root")

        def begin(self) -> None: ...

        def needed(self, role: str) -> int | None:
            return repository.newest_documents()[role].version

        def update(self, role: str, document: bytes) -> None:
            assert document == repository.newest_documents()[role].wire
            self.roles.append(role)

    class Sink:
        data = b""

        def resume(self, chunk_hashes: list[str]) -> int:
            return 0

        def append(self, chunk: bytes) -> None:
            self.data += chunk

        def finish(self) -> None: ...

    def answer(sequence: Any) -> Any:
        try:
            want = next(sequence)
            while True:
                want = sequence.send(retained[want.topic])
        except StopIteration as done:
            return done.value

    seen, sink = Seen(), Sink()
    answer(refresh(seen, ["base", "lora", "release"]))
    assert seen.roles == ["timestamp", "snapshot", "targets", "base", "lora", "release"]
    for artifact in release_1_1.artifacts.all():
        sink.data = b""
        answer(fetch_object(artifact.index_root or None, artifact.sha256, artifact.length, sink, way=Way(window=1)))
        assert sha256_hex(sink.data) == artifact.sha256


def test_a_release_is_published_once_the_broker_has_all_of_it(release_1_0: Release) -> None:
    done, total = publication.progress([release_1_0.digest])[release_1_0.digest]
    assert (done, total) == (0, 6)  # four chunks, their index, the manifest
    publish_all()
    release_1_0.refresh_from_db()
    assert release_1_0.published_at is not None
    assert publication.progress([release_1_0.digest])[release_1_0.digest] == (6, 6)


def test_a_desired_state_waits_for_its_release_but_not_for_a_later_upload(
    release_1_0: Release, frames: Enrol, offline: Offline, base: File
) -> None:
    first, second = frames(2)
    director.set_desired([first], release_1_0)
    assert all(kind_of(one.topic) < 3 for one in publication.pending(1000))
    publish_all()

    push(offline.release("other", "1", [file("base/other-1.bundle", b"x" * 400_000, "base_model")]))
    director.set_desired([second], release_1_0)

    batch = publication.pending(4)
    assert topics.frame_topic(second, "desired") in [one.topic for one in batch]
    assert len(batch) <= 4


def test_the_answer_to_an_older_version_does_not_hide_a_newer_one(release_1_0: Release, frames: Enrol) -> None:
    publish_all()
    (frame,) = frames(1)
    director.set_desired([frame], release_1_0)
    (old,) = publication.pending(10)
    director.set_desired([frame], None)
    publication.mark_published([old.token])

    (new,) = publication.pending(10)
    assert new.token != old.token
    publication.mark_published([new.token, "retained:1:repo/unknown"])
    assert publication.pending(10) == []


def test_the_answer_to_an_older_head_does_not_hide_a_newer_one(release_1_0: Release) -> None:
    publish_all()
    row = RetainedObject.objects.get(topic=topics.REPO_HEAD)
    old = f"retained:{row.revision}:{row.topic}"
    repository.queue_payload(topics.REPO_HEAD, RetainedObject.Order.HEAD, b"{}")
    publication.mark_published([old])
    assert [one.payload for one in publication.pending(10)] == [b"{}"]


def test_a_broker_that_lost_everything_is_refilled_in_order(release_1_0: Release, frames: Enrol) -> None:
    director.set_desired(frames(2), release_1_0)
    first = publish_all()
    publication.forget_published()
    assert Release.objects.get().published_at is None
    assert {one.topic for one in publish_all()} == {one.topic for one in first}
    assert publication.backlog() == (0, 0)


def test_a_frame_that_missed_its_desired_state_gets_it_again(release_1_0: Release, frames: Enrol) -> None:
    (frame,) = frames(1)
    director.set_desired([frame], release_1_0)
    publish_all()
    director.republish(frame)
    assert [one.topic for one in publication.pending(10)] == [topics.frame_topic(frame, "desired")]


def test_the_head_names_the_newest_versions(release_1_1: Release) -> None:
    head = next(one for one in publish_all() if one.topic == topics.REPO_HEAD)
    assert decode(head.payload, RepoHead) == RepoHead(root=1, timestamp=3, director_root=1)


def test_an_artifact_whose_bytes_are_gone_holds_up_only_what_needs_it(
    offline: Offline, base: File, release_1_0: Release, frames: Enrol, var: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_all()
    adapter = file("lora/mandarin-1.1.adapter", bytes(range(256)) * 1000, "lora_delta", base.ref.sha256)
    release_1_1 = push(offline.release("talking-portrait", "1.1", [adapter], [base.ref]))
    lost = var / "artifacts" / adapter.ref.sha256[:2] / adapter.ref.sha256
    lost.rename(lost.with_suffix(".away"))
    ids = frames(2)
    director.set_desired(ids[:1], release_1_0)
    director.set_desired(ids[1:], release_1_1)

    topics_sent = [one.topic for one in publish_all()]

    assert topics.frame_topic(ids[0], "desired") in topics_sent, "a frame of another release waits"
    assert topics.frame_topic(ids[1], "desired") not in topics_sent
    assert {kind_of(topic) for topic in topics_sent} == {0, 3}, "documents name chunks that are not there"
    assert "push its release again" in caplog.text
    assert publication.pending(7) == []

    lost.with_suffix(".away").rename(lost)
    assert topics.frame_topic(ids[1], "desired") in [one.topic for one in publish_all()]
