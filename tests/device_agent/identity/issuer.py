"""The fleet's authority in memory, and the birth endpoint over it on a real HTTPS port."""

import datetime as dt
import ipaddress
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from device_agent.identity.key import public_bytes
from protocol.birth import ClaimRequest, Issued, Nonce, RenewRequest, proof_bytes
from protocol.codec import decode, encode
from protocol.envelope import Envelope

HOST = "127.0.0.1"
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
TOKEN = "abcdefghijklmnopqrstuvwxyz"


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


class Authority:
    """Signs what it is asked to; ``of`` crosses to another one's key."""

    def __init__(self, name: str = "fleet CA 1", key: ec.EllipticCurvePrivateKey | None = None) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._authority(self.name, self.key.public_key())

    def cross(self, other: "Authority") -> x509.Certificate:
        """``other``'s name and key, signed by this one."""
        return self._authority(other.name, other.key.public_key())

    def issue(
        self,
        frame_id: str,
        key: object,
        *,
        begin: dt.datetime = NOW - DAY,
        end: dt.datetime = NOW + 30 * DAY,
        server: bool = False,
    ) -> x509.Certificate:
        serial = x509.random_serial_number()
        names: list[x509.GeneralName] = [x509.DNSName(frame_id), x509.DNSName(f"{serial:x}.{frame_id}")]
        if server:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, frame_id)])
        return (
            self._builder(subject, key, begin, end, serial)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def _authority(self, subject: x509.Name, key: object) -> x509.Certificate:
        return (
            self._builder(subject, key, NOW - 4000 * DAY, NOW + 4000 * DAY, x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)  # type: ignore[arg-type]
            .sign(self.key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, key: object, begin: dt.datetime, end: dt.datetime, serial: int
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)  # type: ignore[arg-type]
            .serial_number(serial)
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )


def write_identity(
    folder: Path,
    authority: Authority,
    frame_id: str,
    begin: dt.datetime = NOW - DAY,
    end: dt.datetime = NOW + 30 * DAY,
    **more: object,
) -> x509.Certificate:
    """``identity/`` as a birth leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.issue(frame_id, key.public_key(), begin=begin, end=end)
    (folder / "key.pem").write_bytes(private_pem(key))
    (folder / "cert.pem").write_text(pem(certificate))
    (folder / "ca.pem").write_text(pem(authority.certificate))
    frame = {"frame_id": frame_id, "locale": "zh", "hardware": "rk3588", **more}
    (folder / "frame.json").write_bytes(msgspec.json.encode(frame))
    return certificate


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass
class BirthEndpoint:
    """``protocol.birth`` over one authority. ``answer`` replaces what a path says, for what a server must not do."""

    authority: Authority
    frame_id: str = "frame-1"
    mqtt: str | None = "mqtts://broker.example:8883"
    time: Callable[[str], Envelope] | None = None
    url: str = ""
    claimed_by: bytes | None = None
    nonces: set[str] = field(default_factory=set)
    proven: list[RenewRequest] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    answer: Callable[[str, bytes], tuple[int, bytes] | None] = lambda path, body: None
    drip: Literal["headers", "body"] | None = None

    def serve(self, path: str, body: bytes) -> tuple[int, bytes]:
        self.asked.append(path)
        replaced = self.answer(path, body)
        if replaced is not None:
            return replaced
        if path == "/birth/claim":
            return self._claim(decode(body, ClaimRequest))
        if path == "/birth/nonce":
            nonce = secrets.token_hex(16)
            self.nonces.add(nonce)
            return 200, encode(Nonce(nonce=nonce))
        if path == "/birth/renew":
            return self._renew(decode(body, RenewRequest))
        assert path == "/birth/time"
        assert self.time is not None
        return 200, encode(self.time(decode(body, Nonce).nonce))

    def _claim(self, request: ClaimRequest) -> tuple[int, bytes]:
        key = x509.load_pem_x509_csr(request.csr.encode()).public_key()
        if request.claim != TOKEN:
            return 404, b'{"detail":"This claim is unknown: check the label."}'
        if self.claimed_by not in (None, public_bytes(key)):
            return 404, b'{"detail":"This claim was used already: make a new claim for the frame."}'
        self.claimed_by = public_bytes(key)
        return 200, self._issued(key)

    def _renew(self, request: RenewRequest) -> tuple[int, bytes]:
        old = x509.load_pem_x509_certificate(request.certificate.encode())
        key = old.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(request.signature, proof_bytes(request.nonce, request.csr), ec.ECDSA(hashes.SHA256()))
        if request.nonce not in self.nonces:
            return 403, b'{"detail":"This nonce is unknown: ask for a new one."}'
        self.nonces.discard(request.nonce)
        self.proven.append(request)
        return 200, self._issued(x509.load_pem_x509_csr(request.csr.encode()).public_key())

    def _issued(self, key: object) -> bytes:
        return encode(
            Issued(
                frame_id=self.frame_id,
                hardware="rk3588",
                locale="zh-CN",
                certificate=pem(self.authority.issue(self.frame_id, key)),
                ca=pem(self.authority.certificate),
                mqtt=self.mqtt,
            )
        )


@contextmanager
def birth_endpoint(
    folder: Path, endpoint: BirthEndpoint, *, end: dt.datetime = NOW + 30 * DAY
) -> Iterator[BirthEndpoint]:
    """Serve it on a free port of 127.0.0.1, with a server's certificate good until ``end``."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = endpoint.authority.issue("localhost", key.public_key(), begin=NOW - 90 * DAY, end=end, server=True)
    (folder / "server.pem").write_text(pem(certificate))
    (folder / "server-key.pem").write_bytes(private_pem(key))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = endpoint.serve(self.path, body)
            self.send_response(status)
            if status in (301, 302, 307, 308):
                self.send_header("Location", endpoint.url + "/birth/elsewhere")
            self.send_header("Content-Length", str(len(answer)))
            if endpoint.drip == "headers":
                self.flush_headers()
                self.drip(b"X-Slow: " + b"s" * 100)
            self.end_headers()
            if endpoint.drip == "body":
                self.drip(answer)
            else:
                self.wfile.write(answer)

        def drip(self, said: bytes) -> None:
            for byte in said:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # clients that do not believe us hang up

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    server = Server((HOST, 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    endpoint.url = f"https://{HOST}:{server.server_port}"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
