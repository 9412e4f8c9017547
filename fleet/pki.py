"""The fleet's certificate authority: EC P-256 keys and certificates, in files that only their owner reads.

A certificate's SAN DNS and CN are the identity (the frame's id, or ``bridge``); the broker maps it to a user. A
server's certificate names 127.0.0.1 and localhost and cannot be used as a client's, nor the other way round.

Below ``FRAMEFLEET_VAR``: ``ca/{ca.pem,key.pem}``, ``tls/server/{cert.pem,key.pem}``, ``tls/bridge/{cert.pem,key.pem}``.
"""

import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE = timedelta(days=3650)
FRAME_LIFE = timedelta(days=730)
SERVICE_LIFE = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)
CLOCK_SKEW = timedelta(hours=1)
"""How far a frame's clock may be behind and still accept a fresh certificate."""

BRIDGE = "bridge"
SERVER = "localhost"
RESERVED = frozenset({BRIDGE, SERVER})
"""Identities that no frame may have."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new private key and its certificate, both PEM; ``fingerprint`` is SHA-256 of the certificate's DER in hex."""

    key: bytes
    certificate: bytes
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Authority:
    """The CA: its certificate (PEM) and what signs with it."""

    certificate: bytes
    _name: x509.Name
    _key: ec.EllipticCurvePrivateKey

    @classmethod
    def open(cls, folder: Path, now: datetime | None = None) -> "Authority":
        """The CA in ``folder``, made when there is none."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / "ca.pem").exists():
            made = _make_authority(now or datetime.now(UTC))
            write_private(folder / "key.pem", made.key)
            write_private(folder / "ca.pem", made.certificate)  # last: its presence says that the CA is whole
        certificate = (folder / "ca.pem").read_bytes()
        key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{folder / 'key.pem'} is no EC key: put the fleet CA's own key back.")
        return cls(certificate, x509.load_pem_x509_certificate(certificate).subject, key)

    def client(self, identity: str, life: timedelta = FRAME_LIFE, now: datetime | None = None) -> Issued:
        """A client certificate for a frame or the bridge."""
        names = [x509.DNSName(identity)]
        return self._issue(identity, names, ExtendedKeyUsageOID.CLIENT_AUTH, life, now or datetime.now(UTC))

    def server(self, now: datetime | None = None) -> Issued:
        """The certificate of the services on this machine."""
        names = [x509.DNSName(SERVER), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return self._issue(SERVER, names, ExtendedKeyUsageOID.SERVER_AUTH, SERVICE_LIFE, now or datetime.now(UTC))

    def _issue(
        self,
        identity: str,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        life: timedelta,
        now: datetime,
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_named(identity), self._name, key, now, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _issued(key, certificate)


def ensure_services(var: Path, now: datetime | None = None) -> list[Path]:
    """Make the fleet CA and the server's and the bridge's certificates where they are missing or near their end.

    Returns the folders that were written.
    """
    now = now or datetime.now(UTC)
    is_new = not (var / "ca" / "ca.pem").exists()
    authority = Authority.open(var / "ca", now)
    written = [var / "ca"] if is_new else []
    server, bridge = var / "tls" / "server", var / "tls" / "bridge"
    # What an earlier CA signed is worth nothing under a new one.
    if is_new or not _is_good(server / "cert.pem", now):
        _write_pair(server, authority.server(now))
        written.append(server)
    if is_new or not _is_good(bridge / "cert.pem", now):
        _write_pair(bridge, authority.client(BRIDGE, SERVICE_LIFE, now))
        written.append(bridge)
    return written


def fingerprint(pem: bytes) -> str:
    """SHA-256 of a certificate's DER, in hex. Raises ValueError when it is none."""
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


def write_private(path: Path, data: bytes) -> None:
    """Replace a file as a whole; only its owner may read it."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    fresh.replace(path)


def _write_pair(folder: Path, issued: Issued) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(folder / "key.pem", issued.key)
    write_private(folder / "cert.pem", issued.certificate)


def _is_good(path: Path, now: datetime) -> bool:
    """Whether the certificate is there and stays valid for a while."""
    if not path.exists():
        return False
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc > now + RENEW_BEFORE


def _make_authority(now: datetime) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named(f"framefleet CA {secrets.token_hex(4)}")
    certificate = (
        _builder(name, name, key, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _issued(key, certificate)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
    )


def _named(identity: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity)])


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issued(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> Issued:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Issued(
        private,
        certificate.public_bytes(serialization.Encoding.PEM),
        certificate.fingerprint(hashes.SHA256()).hex(),
    )
