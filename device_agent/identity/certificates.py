"""What a frame accepts as its certificate, and which authorities it trusts from then on.

A certificate that came over the network must be for the key the frame just made and in the frame's own name. The
authorities beside it decide which brokers the frame will talk to, so whoever answers may not simply name others: one
that is new counts only if an authority the frame trusts already has signed it (a cross certificate).
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from device_agent.identity.key import public_bytes
from protocol.errors import Reason, Refused

MAX_AUTHORITIES = 8
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What a certificate that is damaged, or made to, raises in one place or another."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A certificate to use (PEM, intermediates after it), the authorities to trust (PEM), and the names of those that
    nobody vouched for and that are left out."""

    certificate: bytes
    ca: bytes
    serial: str
    not_after: dt.datetime
    left_out: tuple[str, ...] = ()


def read(pem: bytes | str) -> list[x509.Certificate]:
    """The certificates in a PEM bundle. Raises Refused."""
    data = pem.encode() if isinstance(pem, str) else pem
    try:
        found = x509.load_pem_x509_certificates(data)
        for certificate in found:  # they are taken apart only when asked, and then raise whatever it is
            _ = certificate.subject, certificate.issuer, certificate.extensions, certificate.not_valid_after_utc
            public_bytes(certificate.public_key())
    except _UNREADABLE as error:
        raise Refused(Reason.BAD_MESSAGE, f"There is no certificate in PEM: {error}.") from None
    return found


def serial_of(certificate: x509.Certificate) -> str:
    """The serial number as the backend writes it: hex, lower case."""
    return format(certificate.serial_number, "x")


def name_in(certificate: x509.Certificate) -> str:
    """Whose certificate it is: its one CN, which its SAN must name too. Raises Refused."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        listed = alternatives.get_values_for_type(x509.DNSName)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise Refused(Reason.BAD_MESSAGE, f"The certificate names nobody: {error}.") from None
    name = str(names[0].value) if len(names) == 1 else None
    if name is None or name not in listed:
        raise Refused(Reason.BAD_MESSAGE, f"The certificate is not in one name: {', '.join(listed) or 'none'}.")
    return name


def accept(
    frame_id: str,
    public: bytes,
    certificate: str,
    ca: str,
    trusted: Sequence[x509.Certificate] | None,
    now: dt.datetime | None,
) -> Accepted:
    """Judge an answer. ``public`` is the key it must be for, ``trusted`` the authorities so far (None at birth: then
    those of the answer count, which came over a connection the installer vouches for), ``now`` None where no time is
    known. Raises Refused with one sentence."""
    chain = read(certificate)
    if len(chain) > 1 + MAX_AUTHORITIES:
        raise Refused(Reason.BAD_MESSAGE, f"The answer's certificate has a chain of {len(chain)}: ask again.")
    leaf = chain[0]
    if public_bytes(leaf.public_key()) != public:
        raise Refused(Reason.WRONG_IDENTITY, "The certificate is for another key than this frame's: ask again.")
    if name_in(leaf) != frame_id:
        raise Refused(
            Reason.WRONG_IDENTITY, f"The certificate is for {name_in(leaf)}, and this is {frame_id}: ask again."
        )
    if now is not None and leaf.not_valid_after_utc <= now:
        raise Refused(Reason.EXPIRED, f"The certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}: ask again.")
    offered = [part for part in read(ca) if _signs(part)]
    if not 1 <= len(offered) <= MAX_AUTHORITIES:
        raise Refused(Reason.BAD_MESSAGE, f"The answer names {len(offered)} authorities; 1 to {MAX_AUTHORITIES} go.")
    good, left_out = (offered, []) if trusted is None else vouched(trusted, offered, chain[1:])
    if not good:
        raise Refused(
            Reason.WRONG_SIGNATURE, "No authority in the answer is known to this frame or signed by one that is."
        )
    if not _leads(leaf, [*chain[1:], *offered], good):
        raise Refused(Reason.WRONG_SIGNATURE, "The certificate is signed by no authority that this frame trusts.")
    return Accepted(
        certificate=_pem(chain),
        ca=_pem(good),
        serial=serial_of(leaf),
        not_after=leaf.not_valid_after_utc,
        left_out=tuple(part.subject.rfc4514_string() for part in left_out),
    )


def vouched(
    trusted: Sequence[x509.Certificate], offered: Sequence[x509.Certificate], beside: Sequence[x509.Certificate] = ()
) -> tuple[list[x509.Certificate], list[x509.Certificate]]:
    """Which of the ``offered`` authorities count, and which do not: those whose key is trusted already, and those whose
    key a counting one has certified, in ``offered`` itself or ``beside`` it."""
    counting = {_key(part) for part in trusted}
    everything = [*offered, *(part for part in beside if _signs(part))]
    authorities = [*trusted, *everything]
    for _ in range(len(everything)):
        more = {
            _key(part)
            for part in everything
            if _key(part) not in counting
            and any(_key(by) in counting and _issued(part, by) for by in authorities if by is not part)
        }
        if not more:
            break
        counting |= more
    return (
        [part for part in offered if _key(part) in counting],
        [part for part in offered if _key(part) not in counting],
    )


def _leads(leaf: x509.Certificate, others: Sequence[x509.Certificate], good: Sequence[x509.Certificate]) -> bool:
    keys = {_key(part) for part in good}
    part, left = leaf, [other for other in others if _signs(other)]
    for _ in range(len(left) + 1):
        by = next((other for other in left if _issued(part, other)), None)
        if by is None:
            return False
        if _key(by) in keys:
            return True
        part = by
        left = [other for other in left if other is not by]
    return False


def _signs(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound):
        return False


def _issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _key(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    """An authority is its name and key: a cross certificate is the same authority as the one it crosses to."""
    return certificate.subject.public_bytes(), public_bytes(certificate.public_key())


def _pem(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(part.public_bytes(serialization.Encoding.PEM) for part in certificates)
