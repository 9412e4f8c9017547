"""Lists of revoked certificates, for brokers that know no users (Mosquitto's ``crlfile``).

A list must exist for every authority that is trusted: OpenSSL refuses a certificate whose issuer has none. It is good
for LIFE and written anew long before, as an expired one lets nobody in.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from fleet.pki import CLOCK_SKEW, Authority

LIFE = timedelta(days=30)
REWRITE_EVERY = timedelta(days=1)


def revocation_list(authority: Authority, revoked: Iterable[tuple[str, datetime]], now: datetime) -> bytes:
    """The authority's list in PEM; ``revoked`` is (serial in hex, since when)."""
    serials = dict(revoked)
    entries = [
        x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(since).build()
        for serial, since in sorted(serials.items())
    ]
    builder = (
        # Given at once: adding them one by one copies the list each time.
        x509.CertificateRevocationListBuilder(revoked_certificates=entries)
        .issuer_name(authority.parsed.subject)
        .last_update(now - CLOCK_SKEW)
        .next_update(now + LIFE)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        # Grows with every list and needs no memory of its own.
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1_000_000)), critical=False)
    )
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def revocation_lists(
    authorities: Iterable[Authority], revoked: Mapping[str, list[tuple[str, datetime]]], now: datetime
) -> bytes:
    """One list after the other; ``revoked`` by ``Authority.id``."""
    return b"".join(revocation_list(one, revoked.get(one.id, []), now) for one in authorities)
