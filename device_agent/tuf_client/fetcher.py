"""Bytes over HTTP, bounded in length and time. Who they are from is for signatures to say."""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from urllib.parse import SplitResult, urlsplit

from protocol.errors import Reason, Refused

TIMEOUT_S = 10.0
"""Silence that ends a download."""
SLOWEST = 8 * 1024
"""Bytes per second below which a download is given up, whatever trickles in."""
PIECE = 64 * 1024
_MISSING = frozenset({http.HTTPStatus.FORBIDDEN, http.HTTPStatus.NOT_FOUND})


class _Missing(Exception):
    """The server has no such thing."""


class HttpFetcher:
    """Knows http and https, follows no redirect, and goes through no proxy."""

    def __init__(self, timeout_s: float = TIMEOUT_S, slowest: float = SLOWEST) -> None:
        self._timeout_s = timeout_s
        self._slowest = slowest

    def small(self, url: str, limit: int) -> bytes | None:
        """All of it, None where the server has no such thing. Raises Refused(NOT_AVAILABLE)."""
        try:
            return b"".join(self._read(url, limit))
        except _Missing:
            return None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _failed(url, error) from error

    def pieces(self, url: str, length: int) -> Iterator[bytes]:
        """At most ``length`` bytes, piece by piece. Raises Refused(NOT_AVAILABLE)."""
        try:
            yield from self._read(url, length)
        except (OSError, ValueError, http.client.HTTPException, _Missing) as error:
            raise _failed(url, error) from error

    def _read(self, url: str, limit: int) -> Iterator[bytes]:
        parts = urlsplit(url)
        with closing(self._connection(parts)) as connection:
            connection.connect()
            late = threading.Event()
            # A server that drips its headers or its bytes never lets a read time out.
            watch = threading.Timer(self._timeout_s + limit / self._slowest, _cut, [connection.sock, late])
            watch.daemon = True
            watch.start()
            try:
                yield from self._answer(connection, parts, limit)
            except (OSError, http.client.HTTPException) as error:
                if not late.is_set():
                    raise error
            finally:
                watch.cancel()
            if late.is_set():
                raise ValueError("it comes too slowly")

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        if not parts.hostname or parts.username is not None:
            raise ValueError("it names no server")
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=self._timeout_s, context=context)
        if parts.scheme != "http":
            raise ValueError("it is no http or https address")
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self._timeout_s)

    def _answer(self, connection: http.client.HTTPConnection, parts: SplitResult, limit: int) -> Iterator[bytes]:
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        connection.request("GET", path, headers={"Accept-Encoding": "identity"})
        with connection.getresponse() as response:
            if response.status in _MISSING:
                raise _Missing(f"it answered {response.status}")
            if response.status != http.HTTPStatus.OK:
                raise ValueError(f"it answered {response.status}")
            taken = 0
            while piece := response.read1(PIECE):
                taken += len(piece)
                if taken > limit:
                    raise ValueError(f"it is longer than the {limit} bytes that it may have")
                yield piece


def _cut(connection: socket.socket | None, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        if connection is not None:
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # below TLS, which its reader still uses


def _failed(url: str, error: Exception) -> Refused:
    return Refused(Reason.NOT_AVAILABLE, f"{url} could not be read ({error}): look at the server, then try again.")
