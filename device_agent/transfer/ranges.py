"""The second source of an artifact's bytes: HTTP Range requests to ``{base}/{sha256}``.

Nothing here is trusted: whoever fetches checks every chunk's hash. So all that matters is that a server cannot cost
more than bounded time and memory: no redirects, no more bytes than were asked for, and a deadline for the whole answer,
however slowly it drips.
"""

import http.client
import logging
import re
import ssl
from urllib.parse import urlsplit

from device_agent.deadline import within
from protocol.fetching import NoRange

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""Of one silence."""
DEADLINE_S = 30.0
"""Of one request, to its last byte."""
PIECE = 64 * 1024
_CONTENT_RANGE = re.compile(r"bytes (\d{1,16})-(\d{1,16})/(?:\d{1,16}|\*)")


class HttpRanges:
    """One connection, kept alive between requests; used by one thread at a time. Authorities are the system's, or those
    that SSL_CERT_FILE names."""

    def __init__(self, base: str, *, timeout_s: float = TIMEOUT_S, deadline_s: float = DEADLINE_S) -> None:
        self._base = base.rstrip("/")
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._connection: http.client.HTTPConnection | None = None
        self._fresh = True

    def read(self, sha256: str, offset: int, length: int) -> bytes:
        """``length`` bytes of the artifact from ``offset``. Raises NoRange."""
        try:
            try:
                return self._read(sha256, offset, length)
            except (ConnectionError, http.client.BadStatusLine):
                # A connection that was kept may have been closed meanwhile, which says nothing about the server.
                self.close()
                if self._fresh:
                    raise
                return self._read(sha256, offset, length)
        except (OSError, http.client.HTTPException, ValueError, NoRange) as error:
            self.close()
            log.info("No range of %s from %s: %r", sha256[:12], self._base, error)
            raise NoRange(f"{self._base} did not give bytes {offset} to {offset + length - 1}: {error}.") from None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _read(self, sha256: str, offset: int, length: int) -> bytes:
        connection = self._open()
        if connection.sock is None:
            connection.connect()
        with within(self._deadline_s, connection.sock):
            last = offset + length - 1
            headers = {"Range": f"bytes={offset}-{last}", "Accept-Encoding": "identity"}
            connection.request("GET", f"{urlsplit(self._base).path}/{sha256}", headers=headers)
            with connection.getresponse() as response:
                _check(response, offset, length)
                data = bytearray()
                while len(data) < length and (piece := response.read1(min(PIECE, length - len(data)))):
                    data += piece
        if len(data) != length:
            raise NoRange(f"only {len(data)} bytes came")
        self._fresh = False
        return bytes(data)

    def _open(self) -> http.client.HTTPConnection:
        if self._connection is None:
            parts = urlsplit(self._base)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
                raise NoRange("the address is none for files")
            self._fresh = True
            if parts.scheme == "https":
                self._connection = http.client.HTTPSConnection(
                    parts.hostname, parts.port, timeout=self._timeout_s, context=ssl.create_default_context()
                )
            else:
                self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=self._timeout_s)
        return self._connection


def _check(response: http.client.HTTPResponse, offset: int, length: int) -> None:
    """Whether this answers with exactly these bytes. A whole file (200) is them only when it has as many."""
    if response.status == http.HTTPStatus.OK and offset == 0 and response.length == length:
        return
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        raise NoRange(f"it answered {response.status}")
    said = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if said is None or (int(said[1]), int(said[2])) != (offset, offset + length - 1):
        raise NoRange("it answered with another range")
