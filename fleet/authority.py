"""The fleet CA over the years: the services' certificates, and how a new authority takes over from the old one.

``rotate`` puts a new authority in front of the bundle and keeps the old one behind it, still trusted; ``retire`` takes
the old one away. In between every frame asks for a new certificate. A frame that was dark all the while follows by the
cross certificates, which servers go on sending after the old authority has been retired.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from django.conf import settings

from fleet.pki import (
    BRIDGE,
    RENEW_BEFORE,
    SERVICE_LIFE,
    Authority,
    Issued,
    authority_id,
    builder,
    key_pem,
    key_usage,
    make_authority,
    pem,
    write_private,
)
from protocol.errors import Reason, Refused

MAX_CROSSES = 4
"""How many rotations a frame may sleep through."""


def folder() -> Path:
    """Where the fleet CA lies."""
    return Path(settings.FRAMEFLEET_VAR) / "ca"


def current() -> Authority:
    """The authority that signs; read again only when somebody has changed it."""
    path = folder() / "ca.pem"
    if not path.exists():
        return Authority.open(folder())
    stat = path.stat()
    return _loaded(str(folder()), stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=2)
def _loaded(where: str, _changed: int, _inode: int) -> Authority:
    return Authority.open(Path(where))


def ensure_services(var: Path, now: datetime | None = None, names: Sequence[str] = ()) -> list[Path]:
    """Make the fleet CA and the server's and the bridge's certificates where they are missing, near their end, signed
    by an earlier authority, or do not name all of ``names``. Returns the folders that were written.
    """
    now = now or datetime.now(UTC)
    is_new = not (var / "ca" / "ca.pem").exists()
    authority = Authority.open(var / "ca", now)
    written = [var / "ca"] if is_new else []
    server, bridge = var / "tls" / "server", var / "tls" / "bridge"
    if not _is_good(server, authority, now, names):
        issued = authority.server(names, now)
        # Frames that know only an earlier authority follow by the cross certificates.
        _write_pair(server, issued)
        written.append(server)
    if not _is_good(bridge, authority, now):
        _write_pair(bridge, authority.client(BRIDGE, SERVICE_LIFE, now))
        written.append(bridge)
    return written


def rotate(var: Path, now: datetime | None = None) -> Authority:
    """A new authority signs from now on; the old one stays trusted until ``retire``. Services get new certificates.

    Raises Refused while an earlier rotation is not finished.
    """
    now = now or datetime.now(UTC)
    where = var / "ca"
    Authority.open(where, now)
    old, *before = Authority.all(where)
    if before:
        raise Refused(
            Reason.BAD_MESSAGE,
            "The last rotation is not finished: see fleet_ca --status, and retire the old authority with --retire.",
        )
    key, certificate = make_authority(now)
    name = authority_id(certificate)
    cross = (
        builder(certificate.subject, old.parsed.subject, key.public_key(), now, old.parsed.not_valid_after_utc, None)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(old.key.public_key()), critical=False)
        .sign(old.key, hashes.SHA256())
    )
    earlier = x509.load_pem_x509_certificates(old.cross)[: MAX_CROSSES - 1] if old.cross else []
    (where / "cross").mkdir(mode=0o700, exist_ok=True)
    write_private(where / "keys" / f"{name}.pem", key_pem(key))
    write_private(where / "cross" / f"{name}.pem", b"".join(pem(one) for one in [cross, *earlier]))
    write_private(where / "ca.pem", pem(certificate) + old.certificate)  # last: this is the switch
    ensure_services(var, now, _names(var / "tls" / "server"))
    return Authority.open(where)


def retire(var: Path) -> str | None:
    """Trust the authority before the one that signs no more. Returns its id, None when there is none."""
    signing, *before = Authority.all(var / "ca")
    if not before:
        return None
    write_private(var / "ca" / "ca.pem", signing.certificate)
    for one in before:  # its key is worth nothing to anybody but a thief
        (var / "ca" / "keys" / f"{one.id}.pem").unlink(missing_ok=True)
    if (var / "ca" / "keys" / f"{signing.id}.pem").exists():  # so the first version's key is not the one that signs
        (var / "ca" / "key.pem").unlink(missing_ok=True)
    return before[0].id


def _write_pair(where: Path, issued: Issued) -> None:
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(where / "key.pem", issued.key)
    write_private(where / "cert.pem", issued.certificate)


def _is_good(where: Path, authority: Authority, now: datetime, names: Sequence[str] = ()) -> bool:
    """Whether the pair is there, this authority's, stays valid for a while and has all the names."""
    path = where / "cert.pem"
    if not (path.exists() and (where / "key.pem").exists()):
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return (
        certificate.issuer == authority.parsed.subject
        and certificate.not_valid_after_utc > now + RENEW_BEFORE
        and set(names) <= {*_names(where)}
    )


def _names(where: Path) -> list[str]:
    """The names in a service's certificate."""
    if not (where / "cert.pem").exists():
        return []
    certificate = x509.load_pem_x509_certificate((where / "cert.pem").read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return [*found.get_values_for_type(x509.DNSName), *addresses]
