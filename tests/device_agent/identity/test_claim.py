"""``device-agent claim``: from a token on a label to an identity, whole or not at all; one sentence where it fails."""

import json
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509

from device_agent.__main__ import main
from device_agent.folder import AgentFolder, broker_url, read_frame_file
from device_agent.identity import server as server_module
from device_agent.identity.pairs import Pairs, certified_identity
from device_agent.storage.disk import using
from tests.device_agent.identity.cuts import Cut, FailingDisk
from tests.device_agent.identity.issuer import DAY, NOW, TOKEN, Authority, BirthEndpoint, birth_endpoint, pem

CA = Authority()


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[BirthEndpoint]:
    (tmp_path / "ca.pem").write_text(pem(CA.certificate))
    with birth_endpoint(tmp_path / "server", BirthEndpoint(CA)) as endpoint:
        yield endpoint


def claim(tmp_path: Path, endpoint: BirthEndpoint, *more: str, token: str = TOKEN) -> int:
    arguments = ["--dir", str(tmp_path / "frame"), "--server", endpoint.url, "--ca", str(tmp_path / "ca.pem")]
    return main(["claim", *arguments, *more, token])


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert said.startswith("device-agent claim: ")
    assert said.count("\n") == 1
    return said


def test_a_token_becomes_an_identity_and_the_key_never_leaves(
    tmp_path: Path, endpoint: BirthEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[bytes] = []

    def listen(path: str, body: bytes) -> None:
        sent.append(body)

    endpoint.answer = listen
    assert claim(tmp_path, endpoint, "--hardware", "rk3588", token=TOKEN.upper()[:13] + "-" + TOKEN[13:]) == 0
    assert capsys.readouterr().out == "This is frame frame-1 now; its broker is mqtts://broker.example:8883.\n"
    folder = AgentFolder(tmp_path / "frame")
    pairs = Pairs(folder.identity)
    assert certified_identity(pairs) == "frame-1"
    pairs.context()
    frame = read_frame_file(folder)
    assert (frame.hardware, frame.locale, frame.server) == ("rk3588", "zh-CN", endpoint.url)
    assert broker_url(None, frame) == "mqtts://broker.example:8883"
    assert broker_url("mqtts://elsewhere", frame) == "mqtts://elsewhere", "the setting wins"
    (body,) = sent
    key = (folder.identity / "key.pem").read_text()
    assert stat.S_IMODE((folder.identity / "key.pem").stat().st_mode) == 0o600
    assert "PRIVATE" in key
    assert b"PRIVATE" not in body
    assert key.splitlines()[1].encode() not in body
    assert x509.load_pem_x509_csr(json.loads(body)["csr"].encode()).is_signature_valid


def test_the_whole_address_of_the_qr_code_will_do_also_from_a_file(tmp_path: Path, endpoint: BirthEndpoint) -> None:
    (tmp_path / "token").write_text(f"{endpoint.url}/claim/{TOKEN}\n")
    where = ["--dir", str(tmp_path / "frame"), "--ca", str(tmp_path / "ca.pem")]
    assert main(["claim", *where, "--token-file", str(tmp_path / "token")]) == 0


def test_doing_it_again_changes_nothing_and_another_token_is_refused(
    tmp_path: Path, endpoint: BirthEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert claim(tmp_path, endpoint) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "frame" / "identity").iterdir()}
    assert claim(tmp_path, endpoint) == 0
    assert endpoint.asked == ["/birth/claim"]
    capsys.readouterr()
    assert claim(tmp_path, endpoint, token="b" * 26) == 1
    assert "This is frame frame-1 already" in refused(capsys)
    assert {path.name: path.read_bytes() for path in (tmp_path / "frame" / "identity").iterdir()} == before


def test_a_cut_anywhere_is_completed_by_doing_it_again_with_the_same_key(
    tmp_path: Path, endpoint: BirthEndpoint
) -> None:
    cuts = 0
    while True:
        frame = tmp_path / f"cut-{cuts}"
        endpoint.claimed_by = None
        arguments = ["claim", "--dir", str(frame), "--server", endpoint.url, "--ca", str(tmp_path / "ca.pem"), TOKEN]
        try:
            with using(FailingDisk(cuts)):
                assert main(arguments) == 0
            break
        except Cut:
            cuts += 1
        folder = AgentFolder(frame)
        assert not (folder.identity / "frame.json").exists(), "whole or not there"
        assert main(arguments) == 0, "the server takes the token from no other key"
        assert certified_identity(Pairs(folder.identity)) == "frame-1"
        Pairs(folder.identity).context()
    assert cuts >= 8


def test_a_lost_answer_is_asked_for_again(
    tmp_path: Path, endpoint: BirthEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose(path: str, body: bytes) -> tuple[int, bytes]:
        endpoint.answer = lambda path, body: None
        endpoint.serve(path, body)
        return 502, b"<html>Bad gateway</html>"

    endpoint.answer = lose
    assert claim(tmp_path, endpoint) == 1
    assert "answered with status 502" in refused(capsys)
    assert claim(tmp_path, endpoint) == 0


def test_what_the_server_refuses_is_told_in_its_own_sentence(
    tmp_path: Path, endpoint: BirthEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert claim(tmp_path, endpoint, token="b" * 26) == 1
    assert "This claim is unknown" in refused(capsys)
    endpoint.claimed_by = b"another key"
    assert claim(tmp_path, endpoint) == 1
    assert "used already" in refused(capsys)


def test_a_certificate_for_anybody_else_is_not_taken(
    tmp_path: Path, endpoint: BirthEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    other = BirthEndpoint(CA)
    assert claim(tmp_path / "other", endpoint, "--ca", str(tmp_path / "ca.pem")) == 0
    stolen = endpoint.authority.issue("frame-1", Authority().key.public_key())
    issued = json.loads(other._issued(stolen.public_key()))
    endpoint.answer = lambda path, body: (200, json.dumps(issued).encode())
    assert claim(tmp_path, endpoint) == 1
    assert "for another key than this frame's" in refused(capsys)
    assert not (tmp_path / "frame" / "identity" / "frame.json").exists()


def test_a_server_of_another_authority_is_not_believed(
    tmp_path: Path, endpoint: BirthEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text(pem(Authority("fleet CA 1").certificate))
    assert claim(tmp_path, endpoint) == 1
    assert "give --ca" in refused(capsys)
    assert endpoint.asked == []
    assert main(["claim", "--dir", str(tmp_path / "new"), "--server", endpoint.url, TOKEN]) == 1
    assert "is not believed" in refused(capsys), "the system's authorities know nothing of it"


def test_a_server_whose_certificate_is_out_of_date_or_a_frame_whose_clock_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text(pem(CA.certificate))
    with birth_endpoint(tmp_path / "server", BirthEndpoint(CA), end=NOW - DAY) as endpoint:
        assert claim(tmp_path, endpoint) == 1
    assert "set its clock, or renew the server's certificate" in refused(capsys)


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ca.pem").write_text(pem(CA.certificate))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = BirthEndpoint(CA, url=f"https://127.0.0.1:{free.getsockname()[1]}")
        assert claim(tmp_path, endpoint) == 1
    assert "cannot be reached (connection refused)" in refused(capsys)
    assert (tmp_path / "frame" / "identity" / "key.pem").exists(), "the key waits for the next try"


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (302, b"", "answered with status 302"),
        (200, b"[" * 70_000, "cannot read"),
        (200, b"{}", "cannot read"),
        (200, b"\xff" * 100, "cannot read"),
        (429, b'{"detail":"Wait ten minutes."}', "Wait ten minutes."),
    ],
)
def test_answers_that_are_none(
    tmp_path: Path,
    endpoint: BirthEndpoint,
    capsys: pytest.CaptureFixture[str],
    status: int,
    answer: bytes,
    said: str,
) -> None:
    endpoint.answer = lambda path, body: (status, answer)
    assert claim(tmp_path, endpoint) == 1
    assert said in refused(capsys)
    assert endpoint.asked == ["/birth/claim"], "nothing is followed"


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_server_that_drips_is_not_waited_for(
    tmp_path: Path,
    endpoint: BirthEndpoint,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    part: Literal["headers", "body"],
) -> None:
    monkeypatch.setattr(server_module, "PATIENCE_S", 0.3)
    endpoint.drip = part
    began = time.monotonic()
    assert claim(tmp_path, endpoint) == 1
    assert time.monotonic() - began < 3.0
    assert "no answer in time" in refused(capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Give the claim token"),
        (("short",), "This is no claim token"),
        ((TOKEN,), "give --server"),
        (("--server", "https://h", "short"), "This is no claim token"),
        (("",), "This is no claim token"),
        (("--server", "http://h", TOKEN), "use https://host:port"),
        (("--server", "https://u@h", TOKEN), "use https://host:port"),
        (("--token-file", "/nowhere", TOKEN), "Give the claim token"),
        (("--token-file", "/nowhere"), "cannot be read"),
        (("--server", "https://h", "--ca", "/nowhere", TOKEN), "give --ca a PEM file"),
    ],
)
def test_what_cannot_be_meant_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert main(["claim", "--dir", str(tmp_path / "frame"), *arguments]) == 1
    assert said in refused(capsys)
