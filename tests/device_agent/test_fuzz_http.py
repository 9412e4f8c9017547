"""Servers that speak broken HTTP, without end or ever so slowly cost a frame a bounded time and one sentence."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.transfer.ranges import HttpRanges
from device_agent.tuf_client.fetcher import HttpFetcher
from protocol.errors import Refused
from protocol.fetching import NoRange
from tests.device_agent.fuzzing import bounded, damaged
from tests.device_agent.hostile import fuzz

WANTED = 1_000
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n" + bytes(WANTED)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + bytes(WANTED) + b"\r\n0\r\n\r\n"
RANGE = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1000\r\nContent-Range: bytes 0-999/5000\r\n\r\n" + bytes(
    WANTED
)
BOMBS = [
    b"",
    b"\r\n" * 50_000,
    b"HTTP/1.1 " + b"2" * 100_000,
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000,
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + bytes(5_000_000),
    b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n" + bytes(5_000_000),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 100_000,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000,
    b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
    b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-99999999999999999999/*\r\n\r\n" + bytes(5_000_000),
    b"SSH-2.0-OpenSSH_9.2\r\n",
]

Serve = Callable[[socket.socket], None]


@contextmanager
def server(serve: Serve) -> Iterator[str]:
    """Does this to every connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        stop = threading.Event()

        def run() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    try:
                        connection.settimeout(1.0)
                        connection.recv(65_536)
                        serve(connection)
                    except OSError:
                        pass

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


def asked(url: str) -> None:
    """Both of the agent's HTTP clients ask; each gets the right number of bytes, or says why not."""
    ranges = HttpRanges(f"{url}/files", timeout_s=0.5, deadline_s=0.5)
    try:
        assert len(ranges.read("0" * 64, 0, WANTED)) == WANTED
    except NoRange:
        pass
    finally:
        ranges.close()
    try:
        document = HttpFetcher(timeout_s=0.5, slowest=1e9).small(f"{url}/timestamp.json", WANTED)
        assert document is None or len(document) <= WANTED
    except Refused as refused:
        assert refused.detail.endswith(".")


@pytest.fixture(scope="module")
def answering() -> Iterator[tuple[str, list[bytes]]]:
    answer = [GOOD]
    with server(lambda connection: connection.sendall(answer[0])) as url:
        yield url, answer


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: repr(bomb[:24]))
def test_a_bomb_is_given_up(answering: tuple[str, list[bytes]], bomb: bytes) -> None:
    url, answer = answering
    answer[0] = bomb
    with bounded(30, seconds=4):
        asked(url)


@fuzz(60)
@given(text=st.one_of(damaged([GOOD, CHUNKED, RANGE]), damaged([RANGE[:120], GOOD[:70]])))
def test_a_broken_answer_is_taken_or_given_up(answering: tuple[str, list[bytes]], text: bytes) -> None:
    url, answer = answering
    answer[0] = text
    with bounded(30, seconds=4):
        asked(url)


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["headers", "body"])
def test_a_server_that_drips_is_given_up(begin: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(begin)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            connection.sendall(b" ")
            time.sleep(0.02)

    with server(drip) as url:
        started = time.monotonic()
        with pytest.raises(Refused, match="too slowly"):
            HttpFetcher(timeout_s=0.3, slowest=1e9).small(f"{url}/timestamp.json", 10_000)
        assert time.monotonic() - started < 2


def test_the_answers_that_are_broken_here_are_good(answering: tuple[str, list[bytes]]) -> None:
    url, answer = answering
    for good in (GOOD, CHUNKED):
        answer[0] = good
        assert HttpFetcher().small(f"{url}/x", WANTED) == bytes(WANTED)
    answer[0] = RANGE
    assert HttpRanges(url).read("0" * 64, 0, WANTED) == bytes(WANTED)
