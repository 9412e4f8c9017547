"""The second source: any server gives the bytes that were asked for or none, in bounded time and memory."""

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from device_agent.transfer.ranges import HttpRanges
from protocol.fetching import NoRange

NAME = "ab" * 32
DATA = bytes(range(256)) * 1_024

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """An HTTP/1.1 server; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/artifacts"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def part(handler: http.server.BaseHTTPRequestHandler) -> None:
    """As a good server answers."""
    assert handler.path == f"/artifacts/{NAME}"
    first, _, last = handler.headers["Range"].removeprefix("bytes=").partition("-")
    body = DATA[int(first) : int(last) + 1]
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {first}-{last}/{len(DATA)}")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def test_ranges_come_over_one_connection() -> None:
    ports: set[int] = set()

    def note(handler: http.server.BaseHTTPRequestHandler) -> None:
        ports.add(handler.client_address[1])
        part(handler)

    with serving(note) as base:
        ranges = HttpRanges(base)
        for offset in (0, 65_536, 200_000):
            assert ranges.read(NAME, offset, 50_000) == DATA[offset : offset + 50_000]
        ranges.close()
    assert len(ports) == 1


def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    def close(handler: http.server.BaseHTTPRequestHandler) -> None:
        part(handler)
        handler.close_connection = True  # without saying so

    with serving(close) as base:
        ranges = HttpRanges(base)
        for _ in range(3):
            assert ranges.read(NAME, 0, 1_000) == DATA[:1_000]
            time.sleep(0.05)
        ranges.close()


def status(code: int, length: int = 10, content_range: str | None = None, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", str(length))
        if content_range is not None:
            handler.send_header("Content-Range", content_range)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(bytes(length))

    return answer


def cut(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(206)
    handler.send_header("Content-Range", "bytes 0-999/5000")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(bytes(500))
    handler.close_connection = True


def nonsense(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\x01\x02 what?\r\n\r\n" * 100)
    handler.close_connection = True


@pytest.mark.parametrize(
    "answer",
    [
        status(404),
        status(500),
        status(416),
        status(302, Location="http://127.0.0.1:1/elsewhere"),
        status(200, length=5_000),
        status(206, length=1_000),
        status(206, length=1_000, content_range="bytes 1000-1999/5000"),
        status(206, length=1_000, content_range="bytes 0-*/5000"),
        cut,
        nonsense,
    ],
)
def test_anything_but_the_range_that_was_asked_for_is_refused(answer: Answer) -> None:
    with serving(answer) as base, pytest.raises(NoRange):
        HttpRanges(base).read(NAME, 0, 1_000)


def test_a_whole_file_is_taken_when_it_is_just_what_was_asked_for() -> None:
    with serving(status(200, length=1_000)) as base:
        assert HttpRanges(base).read(NAME, 0, 1_000) == bytes(1_000)


def test_no_more_bytes_are_read_than_were_asked_for() -> None:
    with serving(status(206, length=50_000_000, content_range="bytes 0-999/50000000")) as base:
        assert len(HttpRanges(base).read(NAME, 0, 1_000)) == 1_000


@pytest.mark.parametrize("drips", ["headers", "body"])
def test_a_server_that_drips_is_cut_off(drips: str) -> None:
    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        if drips == "body":
            handler.send_response(206)
            handler.send_header("Content-Range", "bytes 0-999/5000")
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
        try:
            for _ in range(200):
                handler.wfile.write(b"X")
                time.sleep(0.02)
        except OSError:
            handler.close_connection = True

    with serving(drip) as base:
        ranges = HttpRanges(base, timeout_s=5.0, deadline_s=0.3)
        began = time.monotonic()
        with pytest.raises(NoRange):
            ranges.read(NAME, 0, 1_000)
        assert time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    "base",
    [
        "http://127.0.0.1:1",
        "https://127.0.0.1:1/a",
        "ftp://x/y",
        "http://",
        "http://a:99999/",
        "http://u:p@h/x",
        "http://127.0.0.1:9/a b\r\nX: y",
        "http://[::1",
    ],
)
def test_an_address_where_nothing_answers_or_that_is_none_is_refused(base: str) -> None:
    with pytest.raises(NoRange):
        HttpRanges(base, timeout_s=1.0).read(NAME, 0, 1_000)
