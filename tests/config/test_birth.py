"""The birth endpoint as frames meet it: a real server over TLS, with its own process and database connections."""

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.conf import settings
from django.db import connection

from fleet.authority import ensure_services
from fleet.services.certificates import good_certificates
from fleet.services.claims import make_claims
from ota import keys
from protocol import birth
from protocol.codec import decode, encode
from protocol.envelope import SIGNED_TIME_TYPE, Envelope, signed_bytes
from standalone.processes import free_port, port_answers, wait_until
from tests.fleet.births import awaited, claim_request, csr, new_key

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@dataclass(frozen=True)
class Server:
    port: int

    def post(self, path: str, body: bytes, method: str = "POST") -> tuple[int, bytes]:
        context = ssl.create_default_context(cafile=str(settings.FRAMEFLEET_VAR / "ca" / "ca.pem"))
        http_ = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)
        try:
            http_.request(method, path, body)
            answer = http_.getresponse()
            return answer.status, answer.read()
        finally:
            http_.close()


@pytest.fixture
def server() -> Iterator[Server]:
    ensure_services(settings.FRAMEFLEET_VAR)
    keys.make_missing()
    tls = settings.FRAMEFLEET_VAR / "tls" / "server"
    port = free_port()
    database = connection.settings_dict
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "config.birth:application", "--host", "127.0.0.1", "--port", str(port)),
            *("--ssl-certfile", str(tls / "cert.pem"), "--ssl-keyfile", str(tls / "key.pem"), "--no-access-log"),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "MQTT_URL": "mqtts://127.0.0.1:8883",
            "DATABASE_URL": (
                f"postgresql://{database['USER']}:{database['PASSWORD']}"
                f"@{database['HOST']}:{database['PORT']}/{database['NAME']}"
            ),
        },
    )
    try:
        assert wait_until(lambda: port_answers(port), 30), "the birth endpoint does not come up"
        yield Server(port)
    finally:
        process.terminate()
        assert process.wait(20) == 0 or process.returncode == -15


def test_a_frame_is_born_and_renewed_over_https(server: Server, tmp_path: Path) -> None:
    awaited()
    (claim,) = make_claims(["frame-1"], "rosa")
    key, next_key = new_key(), new_key()
    status, body = server.post(birth.CLAIM_PATH, encode(claim_request(claim.token, key)))
    assert status == 200, body
    issued = decode(body, birth.Issued)
    assert (issued.frame_id, issued.mqtt) == ("frame-1", "mqtts://127.0.0.1:8883")

    nonce = decode(server.post(birth.NONCE_PATH, b"{}")[1], birth.Nonce).nonce
    request = csr(next_key)
    signature = key.sign(birth.proof_bytes(nonce, request), ec.ECDSA(hashes.SHA256()))
    renewal = birth.RenewRequest(certificate=issued.certificate, csr=request, nonce=nonce, signature=signature)
    status, body = server.post(birth.RENEW_PATH, encode(renewal))
    assert status == 200, body
    renewed = x509.load_pem_x509_certificate(decode(body, birth.Issued).certificate.encode())
    assert renewed.public_key() == next_key.public_key()

    status, body = server.post(birth.TIME_PATH, encode(birth.Nonce(nonce="c" * 32)))
    envelope = msgspec.json.decode(body, type=Envelope)
    public = keys.online_key("director").private.public_key()
    public.verify(envelope.signatures[0].sig, signed_bytes(SIGNED_TIME_TYPE, envelope.payload))

    for path, sent, method, expected in (
        (birth.CLAIM_PATH, encode(claim_request(claim.token, new_key())), "POST", 404),
        (birth.CLAIM_PATH, b"x" * (birth.MAX_BODY + 1), "POST", 413),
        (birth.CLAIM_PATH, b"", "GET", 405),
        ("/admin/", b"", "GET", 404),
    ):
        status, body = server.post(path, sent, method)
        assert (status, list(json.loads(body))) == (expected, ["detail"])

    # The agent's own command, against this very endpoint.
    awaited("frame-2")
    (label,) = make_claims(["frame-2"], "rosa")
    command = [sys.executable, "-m", "device_agent", "claim", f"https://127.0.0.1:{server.port}/claim/{label.token}"]
    command += ["--dir", str(tmp_path / "agent"), "--ca", str(settings.FRAMEFLEET_VAR / "ca" / "ca.pem")]
    for _ in range(2):  # and once more, as after a cut: nothing is lost
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert good_certificates().filter(frame="frame-2").count() == 1

    # Somebody who begins many requests and ends none keeps nobody out.
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    assert server.post(birth.NONCE_PATH, b"{}")[0] == 200
    for one in idle:
        one.close()
