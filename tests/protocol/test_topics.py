"""Topics name frames, chunks and documents, and refuse names that could mean anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import topics

FRAME_IDS = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)


@given(FRAME_IDS, st.sampled_from(topics.UP))
def test_an_upward_topic_names_its_frame(frame_id: str, kind: topics.Up) -> None:
    parsed = topics.parse_up(topics.frame_topic(frame_id, kind))
    assert parsed == topics.FrameTopic(topics.shard_of(frame_id), frame_id, kind)


@given(st.text(max_size=60))
def test_any_other_topic_is_not_one(topic: str) -> None:
    assert topics.parse_up(topic) is None


@pytest.mark.parametrize(
    "topic",
    ["frames/0/a/desired", "frames/zz/a/hello", "frames/0/A/hello", "frames/0/a/b/hello", "frames/0/a\n/hello", "/"],
)
def test_downward_foreign_and_malformed_topics_are_not_upward(topic: str) -> None:
    assert topics.parse_up(topic) is None


def test_a_topic_under_a_foreign_shard_is_refused() -> None:
    wrong = next(digit for digit in "0123456789abcdef" if digit != topics.shard_of("frame-1"))
    assert topics.parse_up(f"frames/{wrong}/frame-1/hello") is None


@pytest.mark.parametrize("name", ["", "-a", "a-", "a.b", "a/b", "+", "#", "A", "a" * 41, "a\n"])
def test_names_that_would_bend_a_topic_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no frame id"):
        topics.frame_topic(name, "desired")


@pytest.mark.parametrize("sha256", ["", "g" * 64, "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_only_a_hash_names_a_chunk(sha256: str) -> None:
    with pytest.raises(ValueError, match="no SHA-256"):
        topics.chunk_topic(sha256)


@pytest.mark.parametrize(("role", "version"), [("../root", 1), ("root", 0), ("Root", 1), ("", 1), ("a.b", 1)])
def test_only_a_role_and_a_version_name_a_document(role: str, version: int) -> None:
    with pytest.raises(ValueError, match="no TUF document"):
        topics.meta_topic(role, version)
