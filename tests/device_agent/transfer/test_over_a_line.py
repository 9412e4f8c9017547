"""Downloads over real lines and a real broker: far away, slow, cut, with an HTTP server beside it that dies."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.tls import TlsFiles
from device_agent.transfer.ranges import HttpRanges
from protocol import topics
from protocol.chunks import ChunkIndex, build_index, sha256_hex, split
from protocol.errors import Reason, Refused
from protocol.fetching import Way
from protocol.limits import CHUNK_SIZE
from protocol.sequences import RetryPolicy
from tests.device_agent.live import Backend, backend_user, frame_user
from tests.device_agent.transfer.fetcher import Fetcher
from tests.device_agent.transfer.relay import Relay, relay
from tests.device_agent.transfer.served import serving
from tests.services import BrokerHandle, mqtt_broker

pytestmark = pytest.mark.slow

FRAME = "frame-1"
DATA = os.urandom(40 * CHUNK_SIZE - 7)
INDEX = build_index([DATA])
IMPATIENT = RetryPolicy(tries=3, timeout_s=0.4, max_timeout_s=0.8, first_backoff_s=0.05, max_backoff_s=0.2)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerHandle]:
    with mqtt_broker(tmp_path_factory.mktemp("broker"), [backend_user(), frame_user(FRAME)]) as handle:
        backend = Backend(handle)
        backend.put(chunks_of(INDEX, DATA))
        backend.close()
        yield handle


def chunks_of(index: ChunkIndex, data: bytes) -> dict[str, bytes]:
    named = {sha256_hex(chunk): chunk for chunk in split(data)} | index.index_chunks
    return {topics.chunk_topic(name): chunk for name, chunk in named.items()}


def tls(broker: BrokerHandle) -> TlsFiles:
    issued = broker.client(FRAME)
    return TlsFiles(broker.ca, issued.cert, issued.key)


def url(port: int) -> str:
    return f"mqtts://127.0.0.1:{port}"


def test_several_chunks_at_a_time_make_a_far_broker_near(broker: BrokerHandle, tmp_path: Path) -> None:
    took: dict[int, float] = {}
    with relay(broker.port, delay_s=0.025) as line:
        for window in (1, 4):
            fetcher = Fetcher(tmp_path / str(window), INDEX, Way(window=window))
            assert fetcher.run(url(line.port), tls(broker), 60).value == len(DATA)
            took[window] = fetcher.took_s
    assert took[4] < 0.5 * took[1], took


def test_a_line_that_is_slower_than_its_patience_still_gets_everything(broker: BrokerHandle, tmp_path: Path) -> None:
    """A chunk takes longer than the first patience, so it grows; nothing is given up while bytes keep coming."""
    data = os.urandom(3 * CHUNK_SIZE)
    index = build_index([data])
    backend = Backend(broker)
    backend.put(chunks_of(index, data))
    backend.close()
    with relay(broker.port, bytes_per_s=120_000) as line:
        patient = RetryPolicy(tries=8, timeout_s=0.4, max_timeout_s=5.0, first_backoff_s=0.05, max_backoff_s=0.2)
        fetcher = Fetcher(tmp_path, index, Way(), patient)
        assert fetcher.run(url(line.port), tls(broker), 60).value == len(data)


def test_a_broker_that_drips_is_given_up_and_what_came_is_kept(broker: BrokerHandle, tmp_path: Path) -> None:
    with relay(broker.port) as line:
        slow = Slowing(line, after=10)
        fetcher = Fetcher(tmp_path, INDEX, Way(meter=slow), IMPATIENT)
        began = time.monotonic()
        done = fetcher.run(url(line.port), tls(broker), 60)
        assert isinstance(done.error, Refused)
        assert done.error.reason is Reason.NOT_AVAILABLE
        assert time.monotonic() - began < 20
    assert fetcher.store.held(INDEX.sha256) >= 5 * CHUNK_SIZE


class Slowing:
    """A meter that lets everything through, and makes the line drip once so many chunks came."""

    def __init__(self, line: Relay, after: int) -> None:
        self.line = line
        self.after = after

    def wait(self, length: int) -> float:
        del length
        return 0.0

    def waits(self, seconds: float) -> None: ...

    def took(self, length: int) -> None:
        del length
        self.after -= 1
        if self.after == 0:
            self.line.bytes_per_s = 20.0


def test_a_line_that_is_cut_again_and_again_fetches_nothing_twice(broker: BrokerHandle, tmp_path: Path) -> None:
    with relay(broker.port) as line:
        cutting = Cutting(line, every=12)
        fetcher = Fetcher(tmp_path, INDEX, Way(meter=cutting))
        assert fetcher.run(url(line.port), tls(broker), 60).value == len(DATA)
    assert fetcher.connects >= 3
    assert cutting.bytes <= len(DATA) + sum(map(len, INDEX.index_chunks.values())) + 4 * CHUNK_SIZE * fetcher.connects


class Cutting(Slowing):
    """Drops the line after every so many chunks."""

    def __init__(self, line: Relay, every: int) -> None:
        super().__init__(line, every)
        self.every = every
        self.bytes = 0

    def took(self, length: int) -> None:
        self.bytes += length
        self.after -= 1
        if self.after == 0:
            self.after = self.every
            self.line.cut()


def test_a_second_source_that_dies_in_the_middle_leaves_the_rest_to_the_broker(
    broker: BrokerHandle, tmp_path: Path
) -> None:
    with serving({INDEX.sha256: DATA}, die_after=2) as served:
        fetcher = Fetcher(tmp_path, INDEX, Way(ranges=HttpRanges(served.base, timeout_s=1.0)))
        assert fetcher.run(broker.url, tls(broker), 60).value == len(DATA)
    assert served.sent == 32 * CHUNK_SIZE, "the first half came over HTTP"
    assert fetcher.store.read(INDEX.sha256) == DATA
