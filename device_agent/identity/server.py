"""The birth endpoint as a frame calls it: one HTTPS POST each, JSON, nothing followed anywhere else."""

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from device_agent.deadline import within
from device_agent.tls import BadDate, about_dates
from protocol.birth import (
    CLAIM_PATH,
    MAX_BODY,
    NONCE_PATH,
    RENEW_PATH,
    TIME_PATH,
    ClaimRequest,
    Issued,
    Nonce,
    RenewRequest,
)
from protocol.codec import decode, encode
from protocol.envelope import Envelope
from protocol.errors import Refused
from protocol.messages import Sentence

T = TypeVar("T")

TIMEOUT_S = 10.0
PATIENCE_S = 30.0
"""All of one request, its headers too; a server that drips is not waited for."""
DEFAULT_PORT = 443
_PIECE = 16 * 1024


class BirthFailed(Exception):
    """The endpoint was not reached, not believed, or said no; the message is one sentence that says what to do.

    ``said_no`` when the endpoint itself refused: asking the same again will not help.
    """

    def __init__(self, sentence: str, *, said_no: bool = False) -> None:
        super().__init__(sentence)
        self.said_no = said_no


class _Detail(msgspec.Struct, frozen=True):
    detail: Sentence


def parse_server(url: str) -> tuple[str, int]:
    """Host and port of ``https://host:port``. Raises ValueError with one sentence."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
        if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or parts.path.strip("/") or parts.query:
            raise ValueError
    except ValueError:
        raise ValueError(f"{url!r} is no birth endpoint: use https://host:port.") from None
    return parts.hostname, port


class BirthServer:
    """Speaks to the endpoint at ``url``; ``context`` makes the TLS context of each connection. Every call raises
    BirthFailed."""

    def __init__(self, url: str, context: Callable[[], ssl.SSLContext]) -> None:
        self._url = url
        self._host, self._port = parse_server(url)
        self._context = context

    def claim(self, request: ClaimRequest) -> Issued:
        """A claim token becomes a certificate."""
        return self._ask(CLAIM_PATH, encode(request), Issued)

    def nonce(self) -> str:
        """128 random bits in hex, to be signed with the lapsed key."""
        return self._ask(NONCE_PATH, b"{}", Nonce).nonce

    def renew(self, request: RenewRequest) -> Issued:
        """A certificate for a new key, against proof of the old one."""
        return self._ask(RENEW_PATH, encode(request), Issued)

    def time(self, nonce: str) -> Envelope:
        """What time it is; whether that is true, the caller finds out."""
        return self._ask(TIME_PATH, encode(Nonce(nonce=nonce)), Envelope)

    def _ask(self, path: str, body: bytes, kind: type[T]) -> T:
        try:
            status, answer = self._post(path, body)
        except BadDate as error:
            raise BirthFailed(f"The server {self._url} is not believed: {error}") from None
        except ssl.SSLCertVerificationError as error:
            raise BirthFailed(self._not_believed(error)) from None
        except ssl.SSLError as error:
            raise BirthFailed(
                f"No secure connection to {self._url} ({error.reason or error}): check that the address is that of the "
                "birth endpoint."
            ) from None
        except (OSError, http.client.HTTPException) as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else _plain(error)
            raise BirthFailed(f"The server {self._url} cannot be reached ({why}): check address and network.") from None
        if status == http.HTTPStatus.OK:
            try:
                return decode(answer, kind, limit=MAX_BODY)
            except Refused as refused:
                raise BirthFailed(f"The server {self._url} answered what this agent cannot read: {refused}") from None
        raise self._said_no(status, answer)

    def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=self._context())
        try:
            connection.connect()
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            with within(PATIENCE_S, connection.sock):
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                answer = b""
                while len(answer) <= MAX_BODY and (piece := response.read1(_PIECE)):
                    answer += piece
            return response.status, answer
        finally:
            connection.close()

    def _not_believed(self, error: ssl.SSLCertVerificationError) -> str:
        if about_dates(error):
            today = time.strftime("%Y-%m-%d", time.gmtime())
            return (
                f"The certificate of {self._url} is not valid on {today}, this frame's date: set its clock, or renew "
                "the server's certificate."
            )
        return (
            f"The server {self._url} is not believed ({error.verify_message or error.reason}): give --ca with the "
            "authority that signed its certificate, and the name that stands in it."
        )

    def _said_no(self, status: int, answer: bytes) -> BirthFailed:
        said_no = 400 <= status < 500 and status not in (http.HTTPStatus.REQUEST_TIMEOUT, 429)
        try:
            detail = decode(answer, _Detail, limit=MAX_BODY).detail
        except Refused:
            return BirthFailed(
                f"The server {self._url} answered with status {status}: check that it is the birth endpoint."
            )
        return BirthFailed(detail, said_no=said_no)


def _plain(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__
