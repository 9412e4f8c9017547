"""Bytes over HTTP, bounded in length and time. Who they are from is for signatures to say."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing

from protocol.errors import Reason, Refused

TIMEOUT_S = 10.0
"""Silence that ends a download."""
SLOWEST = 8 * 1024
"""Bytes per second below which a download is given up, whatever trickles in."""
PIECE = 64 * 1024
_MISSING = (403, 404)


class HttpFetcher:
    """Knows http and https, follows no redirect, and goes through no proxy."""

    def __init__(self, timeout_s: float = TIMEOUT_S, slowest: float = SLOWEST) -> None:
        self._timeout_s = timeout_s
        self._slowest = slowest
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.UnknownHandler(),
        ):
            self._opener.add_handler(handler)

    def small(self, url: str, limit: int) -> bytes | None:
        """All of it, None where the server has no such thing. Raises Refused(NOT_AVAILABLE)."""
        try:
            return b"".join(self._read(url, limit))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _MISSING:
                return None
            raise _failed(url, error) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _failed(url, error) from error

    def pieces(self, url: str, length: int) -> Iterator[bytes]:
        """At most ``length`` bytes, piece by piece. Raises Refused(NOT_AVAILABLE)."""
        try:
            yield from self._read(url, length)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise _failed(url, error) from error

    def _read(self, url: str, limit: int) -> Iterator[bytes]:
        ends_at = time.monotonic() + self._timeout_s + limit / self._slowest
        taken = 0
        with closing(self._opener.open(url, timeout=self._timeout_s)) as response:
            # read1 gives what has come instead of waiting for a whole piece, so the deadline is looked at in between.
            while piece := response.read1(PIECE):
                taken += len(piece)
                if taken > limit:
                    raise ValueError(f"it is longer than the {limit} bytes that it may have")
                if time.monotonic() > ends_at:
                    raise ValueError("it comes too slowly")
                yield piece


def _failed(url: str, error: Exception) -> Refused:
    return Refused(Reason.NOT_AVAILABLE, f"{url} could not be read ({error}): look at the server, then try again.")
