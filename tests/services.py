"""Real services for tests: an embedded PostgreSQL, an embedded broker, and a small certificate authority.

Use::

    with postgres_server(tmp_path) as url: ...
    with mqtt_broker(tmp_path, [user("frame-1", publish=[...], subscribe=[...])]) as broker:
        client.tls_set(broker.ca, *broker.client("frame-1")); client.connect(broker.host, broker.port)
"""

import datetime as dt
import ipaddress
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from standalone.broker import Broker, find_binary
from standalone.processes import HOST, ServiceError, wait_until

# Tests never outlive a power cut, so they need not wait for the disk. They do kill servers, so a commit must have left
# the process: synchronous_commit stays on.
FAST = {"fsync": "off", "full_page_writes": "off"}


class IssuedCertificate(NamedTuple):
    """PEM files of one certificate."""

    cert: Path
    key: Path


def require(find: Callable[[], Path]) -> None:
    """Skip the calling test when ``find`` finds no embedded binary; with CI=true that fails it."""
    try:
        find()
    except ServiceError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@dataclass(frozen=True)
class TestAuthority:
    """A certificate authority in a folder; EC P-256."""

    __test__ = False
    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, identity: str, *, server: bool = False, days: int = 30) -> IssuedCertificate:
        """A certificate whose CN and SAN DNS are ``identity``, made once; a server's also names 127.0.0.1."""
        return issue_test_certificate(self.folder, identity, server=server, days=days)


def test_authority(folder: Path) -> TestAuthority:
    """The authority in ``folder``, made when it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = TestAuthority(folder)
    if not authority.ca.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("framefleet test CA")
        certificate = (
            _builder(name, name, key.public_key(), days=30)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write(folder / "ca-key.pem", _key_pem(key))
        _write(authority.ca, certificate.public_bytes(serialization.Encoding.PEM))
    return authority


test_authority.__test__ = False  # type: ignore[attr-defined]


def issue_test_certificate(folder: Path, identity: str, *, server: bool = False, days: int = 30) -> IssuedCertificate:
    """A client (or server) certificate for ``identity`` from the authority in ``folder``, made once.

    A client's has the fleet's two SAN names, ``identity`` and ``<serial in hex>.<identity>``. Negative ``days`` makes
    an expired one.
    """
    authority = test_authority(folder)
    issued = IssuedCertificate(folder / f"{identity}.pem", folder / f"{identity}-key.pem")
    if issued.cert.exists():
        return issued
    issuer = x509.load_pem_x509_certificate(authority.ca.read_bytes())
    issuer_key = serialization.load_pem_private_key((folder / "ca-key.pem").read_bytes(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    names: list[x509.GeneralName] = [x509.DNSName(identity)]
    names.append(x509.IPAddress(ipaddress.ip_address(HOST)) if server else x509.DNSName(f"{serial:x}.{identity}"))
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    certificate = (
        _builder(_name(identity), issuer.subject, key.public_key(), days=days, serial=serial)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    _write(issued.key, _key_pem(key))
    _write(issued.cert, certificate.public_bytes(serialization.Encoding.PEM))
    return issued


def serial_hex(issued: IssuedCertificate) -> str:
    """The certificate's serial number as a user's name has it."""
    return f"{x509.load_pem_x509_certificate(issued.cert.read_bytes()).serial_number:x}"


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int, serial: int | None = None
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=60))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def user(identity: str, *, publish: Sequence[str] = (), subscribe: Sequence[str] = ()) -> dict[str, Any]:
    """One entry of the broker's users file; MQTT filters in, NATS subjects out (``#`` also means its parent).

    Every user may also use ``$MQTT.sub.>``, without which the broker cannot deliver QoS 1.
    """
    allow_subscribe = [*_subjects(subscribe), "$MQTT.sub.>"]
    return {
        "user": identity,
        "permissions": {"publish": {"allow": _subjects(publish)}, "subscribe": {"allow": allow_subscribe}},
        "allowed_connection_types": ["MQTT"],
    }


def _subjects(filters: Sequence[str]) -> list[str]:
    subjects = []
    for text in filters:
        subject = text.replace("/", ".").replace("+", "*")
        if subject.endswith(".#"):
            subjects += [subject[:-2], subject[:-1] + ">"]
        else:
            subjects += [">" if subject == "#" else subject]
    return subjects


def write_users(path: Path, users: Sequence[Mapping[str, Any]]) -> None:
    """Write a users file for the broker."""
    path.write_text(f"users: {json.dumps(list(users), indent=1)}\n")


@dataclass
class BrokerHandle:
    """A running broker, where it is, and the authority it trusts."""

    broker: Broker
    authority: TestAuthority
    users_file: Path

    @property
    def host(self) -> str:
        return HOST

    @property
    def port(self) -> int:
        return self.broker.port

    @property
    def url(self) -> str:
        return self.broker.url

    @property
    def ca(self) -> Path:
        return self.authority.ca

    def client(self, identity: str) -> IssuedCertificate:
        """The client certificate of ``identity``, made when it is asked for."""
        return self.authority.issue(identity)

    def admit(self, *frame_ids: str) -> None:
        """Let the bridge and exactly these frames in, with what the backend's own users file says of them."""
        from fleet.broker_users import broker_users  # here, because the frame's own environment has no backend

        known = [(frame_id, serial_hex(self.client(frame_id))) for frame_id in frame_ids]
        self.users_file.write_text(broker_users(known, [serial_hex(self.client("bridge"))]))
        self.reload()

    def start(self) -> None:
        self.broker.start()

    def stop(self) -> None:
        self.broker.stop()

    def kill9(self) -> None:
        """Kill it; ``start()`` brings it back with what it kept."""
        self.broker.kill9()

    def restart(self) -> None:
        """Stop in order and start again on the same port."""
        self.stop()
        self.start()

    def reload(self, users: Sequence[Mapping[str, Any]] | None = None, timeout: float = 10.0) -> None:
        """Replace the users and wait until the broker says it has read them."""
        if users is not None:
            write_users(self.users_file, users)
        before = self.broker.log.read_text().count("Reloaded server configuration")
        self.broker.reload()
        if not wait_until(lambda: self.broker.log.read_text().count("Reloaded server configuration") > before, timeout):
            raise AssertionError(f"the broker did not reload:\n{self.broker.log.read_text()[-2000:]}")


@contextmanager
def postgres_server(tmp: Path) -> Iterator[str]:
    """A PostgreSQL of its own under ``tmp``, with the empty database ``framefleet``; gives its URL."""
    from standalone.postgres import Postgres, find_binaries  # here, because the frame's own environment has no psycopg

    require(find_binaries)
    server = Postgres(tmp / "postgres", settings=FAST)
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


@contextmanager
def mqtt_broker(tmp: Path, users: Sequence[Mapping[str, Any]] = ()) -> Iterator[BrokerHandle]:
    """A broker of its own under ``tmp``. Give ``users`` (see ``user()``), or ``admit`` some later."""
    require(find_binary)
    folder = tmp / "broker"
    authority = test_authority(folder / "ca")
    server = authority.issue("broker", server=True)
    users_file = folder / "users.conf"
    write_users(users_file, users)
    broker = Broker(folder / "nats.conf")
    broker.configure(
        store_dir=folder / "store", ca=authority.ca, cert=server.cert, key=server.key, users_file=users_file
    )
    handle = BrokerHandle(broker, authority, users_file)
    try:
        broker.start()
        yield handle
    finally:
        broker.stop()
