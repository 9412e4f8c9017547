"""One POST to an address that a person gave: to public addresses alone, over TLS, without redirects, in bounded time.

The host is resolved once and the connection goes to the address that was checked, so that a name which answers
differently a moment later opens no way into the network that the server stands in.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

MAX_URL = 500
MAX_ANSWER = 1_024
CONNECT_S = 4.0
DEADLINE_S = 8.0
"""For everything after the name is resolved."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Unfit(Exception):
    """The address cannot be posted to. The message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``status`` of the answer, None when there was none; ``error`` says why it is no success, "" for one."""

    status: int | None
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the receiver has taken it."""
        return self.error == ""


def check_url(url: str, *, private: bool) -> SplitResult:
    """The parts of an address that may be posted to, as far as can be told without asking for its name. ``private``
    allows addresses that are not public, and plain http to this machine. Raises Unfit."""
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise Unfit(f"The address must have at most {MAX_URL} printable ASCII characters and no spaces.")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise Unfit("The address cannot be read: write it as https://host/path.") from None
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise Unfit("The address cannot be read: write it as https://host/path.")
    if parts.username is not None or parts.password is not None:
        raise Unfit("The address must not hold a name or password: what we send is signed.")
    if parts.scheme == "http" and not (private and host in LOOPBACK):
        raise Unfit("The address must begin with https://: what is sent must not be readable on its way.")
    literal = _literal(host)
    if not private and (host == "localhost" or (literal is not None and not is_public(literal))):
        raise Unfit("The address is not a public one: set FRAMEFLEET_WEBHOOKS_PRIVATE=1 to allow it.")
    return parts


def is_public(address: Address) -> bool:
    """Whether it belongs to the public internet; addresses that carry another one are judged by that."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        for inner in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())):
            if inner is not None:
                return is_public(inner)
    odd = address.is_multicast or address.is_reserved or address.is_unspecified
    return address.is_global and not odd


def post(url: str, body: bytes, headers: Mapping[str, str], *, private: bool) -> Outcome:
    """Send ``body``; never raises. A status of 200 to 299 is a success."""
    try:
        parts = check_url(url, private=private)
        address, port = _resolved(parts, private=private)
    except Unfit as unfit:
        return Outcome(None, str(unfit))
    except (OSError, UnicodeError) as error:
        return Outcome(None, f"The name {urlsplit(url).hostname} is not found ({_why(error)}).")
    connection: http.client.HTTPConnection | None = None
    watchdog: threading.Timer | None = None
    late = threading.Event()
    try:
        connection = _connected(parts, address, port)
        watchdog = threading.Timer(DEADLINE_S, _cut, (connection.sock, late))
        watchdog.daemon = True
        watchdog.start()
        path = parts.path or "/"
        connection.request("POST", f"{path}?{parts.query}" if parts.query else path, body, dict(headers))
        answer = connection.getresponse()
        answer.read(MAX_ANSWER)
        return _judged(answer.status)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Outcome(None, f"No answer within {DEADLINE_S:g} s." if late.is_set() else f"No answer ({_why(error)}).")
    finally:
        if watchdog is not None:
            watchdog.cancel()
        if connection is not None:
            connection.close()


def _judged(status: int) -> Outcome:
    if 200 <= status < 300:
        return Outcome(status)
    if 300 <= status < 400:
        return Outcome(status, f"It answered {status}, and redirects are not followed: give the final address.")
    return Outcome(status, f"It answered {status}.")


def _resolved(parts: SplitResult, *, private: bool) -> tuple[str, int]:
    """The first of the host's addresses. All of them must be allowed. Raises OSError, Unfit."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    addresses = [str(one[4][0]) for one in found]
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not private and not is_public(address):
            raise Unfit(
                f"{parts.hostname} leads to {address}, which is not a public address: set "
                "FRAMEFLEET_WEBHOOKS_PRIVATE=1 to allow it."
            )
        if parts.scheme == "http" and not address.is_loopback:
            raise Unfit("The address must begin with https://: what is sent must not be readable on its way.")
    return addresses[0], port


def _connected(parts: SplitResult, address: str, port: int) -> http.client.HTTPConnection:
    """Connected to ``address`` and no other, with the certificate of the name."""
    host = parts.hostname or ""
    connection = http.client.HTTPConnection(host, parts.port, timeout=DEADLINE_S)
    plain = socket.create_connection((address, port), timeout=CONNECT_S)
    plain.settimeout(DEADLINE_S)
    try:
        if parts.scheme == "https":
            connection.default_port = 443
            connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        else:
            connection.sock = plain
    except BaseException:
        plain.close()
        raise
    return connection


def _cut(open_socket: socket.socket, late: threading.Event) -> None:
    """Ends a conversation that somebody keeps going drop by drop."""
    late.set()
    with contextlib.suppress(OSError):
        open_socket.shutdown(socket.SHUT_RDWR)


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _why(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)[:100]
