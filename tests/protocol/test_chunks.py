"""An object of any length travels as chunks whose hashes all follow from one root hash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import chunks
from protocol.limits import CHUNK_SIZE, MAX_OBJECT

MIB = 1024 * 1024


def test_an_object_of_one_chunk_needs_no_index() -> None:
    index = chunks.build_index([b"x" * CHUNK_SIZE])
    assert index.root is None
    assert index.chunk_hashes == (index.sha256,)
    assert index.index_chunks == {}


def test_the_index_of_a_692_mib_model_has_two_levels() -> None:
    assert chunks.chunk_count(692 * MIB) == 11_072
    assert chunks.index_lengths(692 * MIB) == [192, 11_072 * 32]


@given(st.integers(min_value=1, max_value=MAX_OBJECT))
def test_chunk_lengths_add_up_to_the_object(length: int) -> None:
    count = chunks.chunk_count(length)
    assert (count - 1) * CHUNK_SIZE + chunks.chunk_length(length, count - 1) == length
    assert 1 <= chunks.chunk_length(length, count - 1) <= CHUNK_SIZE
    assert chunks.index_lengths(length) == sorted(chunks.index_lengths(length))


@given(st.binary(min_size=1, max_size=50), st.integers(1, 3 * CHUNK_SIZE), st.integers(1, 2 * CHUNK_SIZE))
def test_the_index_does_not_depend_on_how_the_bytes_arrive(seed: bytes, length: int, piece: int) -> None:
    data = (seed * (length // len(seed) + 1))[:length]
    whole = chunks.build_index([data])
    pieces = chunks.build_index(data[at : at + piece] for at in range(0, length, piece))
    assert whole == pieces
    assert whole.chunk_hashes == tuple(chunks.sha256_hex(part) for part in chunks.split(data))


def test_every_level_can_be_followed_down_from_the_root() -> None:
    data = bytes(CHUNK_SIZE) * 2_100 + b"tail"
    index = chunks.build_index(data[at : at + 5 * MIB] for at in range(0, len(data), 5 * MIB))
    assert index.root is not None
    level = [index.root]
    for length in chunks.index_lengths(index.length):
        joined = b"".join(index.index_chunks[chunk] for chunk in level)
        assert len(joined) == length
        level = chunks.digests(joined)
    assert tuple(level) == index.chunk_hashes


@pytest.mark.parametrize("length", [0, -1, MAX_OBJECT + 1])
def test_empty_and_oversized_objects_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="an object has 1 to"):
        chunks.chunk_count(length)
    if length == 0:
        with pytest.raises(ValueError, match="an object has 1 to"):
            chunks.build_index([])
