import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.pipeline.ring import RING_BYTES, AudioRing, RingClosed, Samples, pour

Deliveries = st.lists(st.integers(0, 40), max_size=30)


def counted(start: int, count: int) -> Samples:
    return np.arange(start, start + count, dtype=np.float32)


def test_the_ring_takes_six_megabytes_and_no_more() -> None:
    ring = AudioRing(live=False)
    assert ring.capacity * 4 == RING_BYTES == 6 * 2**20


@given(st.integers(1, 50), Deliveries, st.integers(1, 50), st.randoms(use_true_random=False))
def test_a_file_comes_out_as_it_went_in(
    capacity: int, sizes: list[int], count: int, random: np.random.Generator
) -> None:
    ring = AudioRing(live=False, capacity=capacity)
    whole = counted(1, sum(sizes))
    parts = iter(np.split(whole, np.cumsum(sizes)[:-1]) if sizes else [])
    thread = pour(parts, ring)
    read = []
    while len(part := ring.read(min(count, capacity), timeout=10)):
        read.append(part)
        assert len(ring) <= capacity
    thread.join(10)
    assert not thread.is_alive()
    assert np.array_equal(np.concatenate([*read, counted(0, 0)]), whole)
    assert ring.dropped == 0


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 70), st.integers(0, 30)), max_size=30))
def test_a_live_source_never_waits_and_loses_only_the_oldest(capacity: int, turns: list[tuple[int, int]]) -> None:
    ring = AudioRing(live=True, capacity=capacity)
    expected = counted(0, 0)
    lost = written = 0
    for size, count in turns:
        ring.write(counted(written, size))
        written += size
        expected = np.concatenate([expected, counted(written - size, size)])
        lost += max(0, len(expected) - capacity)
        expected = expected[max(0, len(expected) - capacity) :]
        assert len(ring) == len(expected)
        assert ring.dropped == lost
        if 0 < count <= len(expected):
            assert np.array_equal(ring.read(count), expected[:count])
            expected = expected[count:]
    ring.finish()
    assert np.array_equal(ring.read(capacity), expected)
    assert len(ring.read(1)) == 0


def test_a_full_ring_makes_a_file_wait_until_somebody_reads() -> None:
    ring = AudioRing(live=False, capacity=8)
    thread = pour([counted(0, 12)], ring)
    assert np.array_equal(ring.read(8, timeout=10), counted(0, 8))
    assert np.array_equal(ring.read(8, timeout=10), counted(8, 4))
    thread.join(10)
    assert not thread.is_alive()


def test_closing_frees_a_source_that_waits() -> None:
    ring = AudioRing(live=False, capacity=4)
    refused = threading.Event()

    def write() -> None:
        try:
            ring.write(counted(0, 100))
        except RingClosed:
            refused.set()

    thread = threading.Thread(target=write)
    thread.start()
    ring.read(4, timeout=10)
    ring.close()
    thread.join(10)
    assert refused.is_set()
    assert len(ring.read(1)) == 0


def test_a_source_that_stalls_is_noticed_and_nothing_is_lost() -> None:
    ring = AudioRing(live=True, capacity=100)
    ring.write(counted(0, 10))
    with pytest.raises(TimeoutError):
        ring.read(20, timeout=0.01)
    ring.write(counted(10, 10))
    assert np.array_equal(ring.read(20, timeout=1), counted(0, 20))


def test_what_came_before_a_failure_is_read_before_it_is_raised() -> None:
    def broken() -> Iterator[Samples]:
        yield counted(0, 5)
        raise OSError("the microphone was pulled out")

    ring = AudioRing(live=True)
    pour(broken(), ring).join(10)
    assert np.array_equal(ring.read(640), counted(0, 5))
    with pytest.raises(OSError, match="microphone"):
        ring.read(640)


def test_the_last_step_is_filled_up_with_silence() -> None:
    ring = AudioRing(live=False)
    ring.write(np.ones(1_000, np.float32))
    ring.finish()
    steps = list(ring.steps())
    assert [step.shape for step in steps] == [(640,), (640,)]
    assert steps[1].sum() == 360


def test_a_finished_ring_takes_no_more() -> None:
    ring = AudioRing(live=True)
    ring.finish()
    with pytest.raises(ValueError, match="finished"):
        ring.write(counted(0, 1))
