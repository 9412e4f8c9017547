"""TLS of the frame's connections, also where the wall clock is wrong.

OpenSSL holds certificates against the wall clock and cannot be given another one from Python. So where the wall clock
is not the one that counts, OpenSSL checks everything but dates, and the dates of the whole chain are compared with
security time right after the handshake, before a byte is sent. Only while no time is known at all are dates let go;
such a connection serves to ask for the time and for nothing else.
"""

import datetime as dt
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509

NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name."""

Now = Callable[[], dt.datetime | None]


class Clock(Protocol):
    """What a connection needs of ``device_agent.clock``."""

    def now(self) -> dt.datetime | None: ...
    @property
    def source(self) -> str | None: ...


_DATES = frozenset({9, 10})
"""OpenSSL's verify codes for a certificate that is not valid yet, or not any more."""


def about_dates(error: BaseException | None) -> bool:
    """Whether the other side was not believed because of the time: its certificate's, or this frame's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_code in _DATES
    return isinstance(error, BadDate)


class BadDate(ssl.SSLError):
    """A certificate of the other side is not valid now; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the frame's certificate and key, and the authorities that sign the broker's. They never change."""

    ca: Path
    cert: Path
    key: Path

    @property
    def generation(self) -> int:
        """See ``device_agent.transport.Line``."""
        return 0

    def context(self) -> ssl.SSLContext:
        """A client context. Raises OSError (ssl.SSLError among them) when a file is missing or broken."""
        context = trusting(self.ca)
        context.load_cert_chain(self.cert, self.key)
        return context

    def failed(self, *, refused: bool, dates: bool, now: float) -> None:
        """See ``device_agent.transport.Line``."""


def trusting(ca: Path | None, clock: Clock | None = None) -> ssl.SSLContext:
    """A client context that trusts the authorities in ``ca``, or those of the system. ``clock`` None is the wall's.
    Raises OSError."""
    context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if clock is not None and clock.source != "wall":
        context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
        if clock.source is not None:
            context.sslsocket_class = _dated_socket(clock.now)
    return context


def _dated_socket(now: Now) -> type[ssl.SSLSocket]:
    class DatedSocket(ssl.SSLSocket):
        """Compares the dates of the other side's chain with security time once the chain itself is verified."""

        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            require_dates(verified_chain(self), now())

    return DatedSocket


def verified_chain(connection: ssl.SSLSocket) -> list[bytes]:
    """The certificates (DER) that OpenSSL verified, the other side's own first."""
    public: Any = getattr(connection, "get_verified_chain", None)  # from Python 3.13 on
    if public is not None:
        return list(public())
    inner: Any = connection._sslobj  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(part.public_bytes()) for part in inner.get_verified_chain()]


def require_dates(chain: list[bytes], now: dt.datetime | None) -> None:
    """Raises BadDate unless each certificate (DER) is valid now."""
    if now is None or not chain:
        raise BadDate("The time is not known any more: connect again.")
    for der in chain:
        certificate = x509.load_der_x509_certificate(der)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise BadDate(
                f"The certificate {certificate.subject.rfc4514_string()} is good from "
                f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}, and it is "
                f"{now:%Y-%m-%d}: renew it, or check the backend's clock."
            )
