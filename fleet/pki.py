"""The fleet's certificate authority: EC P-256 keys and certificates, in files that only their owner reads.

A client certificate's CN is the identity (the frame's id, or ``bridge``). Its SAN has two DNS names: the identity, and
``<serial in hex>.<identity>``, by which a broker can know one single certificate. A server's certificate names this
machine and cannot be used as a client's, nor the other way round.

Below ``FRAMEFLEET_VAR``: ``tls/server/{cert.pem,key.pem}``, ``tls/bridge/{cert.pem,key.pem}``, and ``ca/``:

``ca.pem``            every authority that is to be trusted; the first one signs. Replacing this file is the switch.
``keys/<id>.pem``     their private keys
``cross/<id>.pem``    an authority's key certified by the one before it, then that one's in turn. They go
                      along with what the new authority signs, so that whoever still knows only an old one follows.
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
class Certificate:
    """A certificate and, where it needs one to be believed by all, the intermediate after it.

    ``pem`` is what a TLS stack presents. ``serial_hex``, ``fingerprint`` (SHA-256 of ``der``) and ``key_fingerprint``
    (SHA-256 of the public key) are lower-case hex; ``authority`` is the ``Authority.id`` that signed.
    """

    pem: bytes
    der: bytes
    serial_hex: str
    fingerprint: str
    key_fingerprint: str
    authority: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Issued:
    """A new private key (PEM) and its certificate."""

    key: bytes
    certificate: bytes
    fingerprint: str
    of: Certificate


@dataclass(frozen=True, slots=True)
class Authority:
    """The CA: its own certificate, the bundle of all that are to be trusted (both PEM), and what signs with it."""

    id: str
    certificate: bytes
    bundle: bytes
    cross: bytes
    """The intermediates by which those follow who know only an authority before it; empty for the first."""
    parsed: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def open(cls, folder: Path, now: datetime | None = None) -> "Authority":
        """The authority in ``folder`` that signs, made when there is none. Raises ValueError with one sentence."""
        if not (folder / "ca.pem").exists():
            (folder / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
            key, certificate = make_authority(now or datetime.now(UTC))
            write_private(folder / "keys" / f"{authority_id(certificate)}.pem", key_pem(key))
            write_private(folder / "ca.pem", pem(certificate))  # last: its presence says that the CA is whole
        return cls.all(folder)[0]

    @classmethod
    def all(cls, folder: Path) -> list["Authority"]:
        """Every authority in ``folder``: the one that signs, then those before it. Raises ValueError."""
        bundle = (folder / "ca.pem").read_bytes()
        found = x509.load_pem_x509_certificates(bundle)
        return [cls._load(folder, one, bundle) for one in found]

    @classmethod
    def _load(cls, folder: Path, certificate: x509.Certificate, bundle: bytes) -> "Authority":
        name = authority_id(certificate)
        path = folder / "keys" / f"{name}.pem"
        if not path.exists() and (folder / "key.pem").exists():
            path = folder / "key.pem"  # where the first version kept it
        key = serialization.load_pem_private_key(path.read_bytes(), None) if path.exists() else None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError(f"{path} is not the key of the fleet CA in {folder / 'ca.pem'}: put its own key back.")
        cross = folder / "cross" / f"{name}.pem"
        return cls(name, pem(certificate), bundle, cross.read_bytes() if cross.exists() else b"", certificate, key)

    def client(self, identity: str, life: timedelta = FRAME_LIFE, now: datetime | None = None) -> Issued:
        """A new key and its client certificate, for a simulated frame or the bridge."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.certify(identity, key.public_key(), life, now)
        return Issued(key_pem(key), certificate.pem, certificate.fingerprint, certificate)

    def certify(
        self,
        identity: str,
        key: ec.EllipticCurvePublicKey,
        life: timedelta = FRAME_LIFE,
        now: datetime | None = None,
    ) -> Certificate:
        """A client certificate for a key that is made elsewhere."""
        serial = x509.random_serial_number()
        names = [x509.DNSName(identity), x509.DNSName(f"{serial:x}.{identity}")]
        return self._issue(identity, key, names, ExtendedKeyUsageOID.CLIENT_AUTH, life, now, serial)

    def server(self, names: Sequence[str] = (), now: datetime | None = None) -> Issued:
        """A new key and the certificate of the services on this machine, which also answer to ``names``."""
        key = ec.generate_private_key(ec.SECP256R1())
        found: list[x509.GeneralName] = [x509.DNSName(SERVER), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        found += [general_name(name) for name in names if name not in (SERVER, "127.0.0.1")]
        certificate = self._issue(
            SERVER, key.public_key(), found, ExtendedKeyUsageOID.SERVER_AUTH, SERVICE_LIFE, now, None
        )
        return Issued(key_pem(key), certificate.pem, certificate.fingerprint, certificate)

    def _issue(
        self,
        identity: str,
        key: ec.EllipticCurvePublicKey,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        life: timedelta,
        now: datetime | None,
        serial: int | None,
    ) -> Certificate:
        now = now or datetime.now(UTC)
        until = min(now + life, self.parsed.not_valid_after_utc)
        signed = (
            builder(named(identity), self.parsed.subject, key, now, until, serial)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(key_usage(authority=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Certificate(
            pem=pem(signed) + self.cross,
            der=signed.public_bytes(serialization.Encoding.DER),
            serial_hex=f"{signed.serial_number:x}",
            fingerprint=signed.fingerprint(hashes.SHA256()).hex(),
            key_fingerprint=key_fingerprint(key),
            authority=self.id,
            not_after=signed.not_valid_after_utc,
        )


def fingerprint(text: bytes) -> str:
    """SHA-256 of a certificate's DER, in hex. Raises ValueError when it is none."""
    return x509.load_pem_x509_certificate(text).fingerprint(hashes.SHA256()).hex()


def key_fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, in hex."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()


def authority_id(certificate: x509.Certificate) -> str:
    """The first 16 hex digits of the fingerprint."""
    return certificate.fingerprint(hashes.SHA256()).hex()[:16]


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file as a whole, so that a cut leaves the old one or the new; only its owner may read it. Without
    ``durable`` (for what can be made again, by the thousand) that holds for the process alone, not for the power."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def make_authority(now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A new key and the certificate by which it is trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = named(f"framefleet CA {secrets.token_hex(4)}")
    certificate = (
        builder(name, name, key.public_key(), now, now + CA_LIFE, None)
        # Its successors stand below it, by their cross certificates.
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    until: datetime,
    serial: int | None,
) -> x509.CertificateBuilder:
    """What all certificates begin with."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(until)
    )


def named(identity: str) -> x509.Name:
    """A subject."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity)])


def general_name(name: str) -> x509.GeneralName:
    """A host name or an address, as a certificate names it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def key_usage(*, authority: bool) -> x509.KeyUsage:
    """Signing certificates and lists of revoked ones, or signing alone."""
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


def pem(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The private key as PEM (PKCS#8)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
