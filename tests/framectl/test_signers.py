"""Keys that never leave where they are: a PKCS#11 token (SoftHSM) and a key service (AWS' interface, by moto)."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from framectl import signers
from framectl.__main__ import main
from framectl.errors import CommandFailed
from framectl.offline import OfflineFolder
from framectl.package import Package
from standalone.processes import ServiceError, free_port
from tests.framectl.conftest import BASE, Desk
from tests.framectl.people import People
from tests.services import require

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
PIN = "5678"


def find_softhsm() -> Path:
    found = next((Path(path) for path in MODULES if Path(path).exists()), None)
    if found is None or shutil.which("softhsm2-util") is None:
        raise ServiceError("There is no SoftHSM: install softhsm2 to test keys in tokens.")
    return found


@dataclass(frozen=True)
class Token:
    """A token of its own; libraries keep state, so each command is a process of its own."""

    home: Path
    environment: dict[str, str]

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **more}
        command = [sys.executable, "-m", "framectl", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def does(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refused(self, *arguments: str, **more: str) -> str:
        done = self.run(*arguments, **more)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr


@pytest.fixture
def token(tmp_path: Path) -> Token:
    require(find_softhsm)
    (tmp_path / "tokens").mkdir()
    configuration = tmp_path / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    environment = {
        **os.environ, "SOFTHSM2_CONF": str(configuration), "PKCS11LIB": str(find_softhsm()),
        "FRAMEFLEET_PKCS11_PIN": PIN,
    }  # fmt: skip
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", "Keys", "--so-pin", "1234", "--pin", PIN],
        env=environment, check=True, capture_output=True,
    )  # fmt: skip
    return Token(tmp_path, environment)


@pytest.mark.slow
def test_a_ceremony_and_a_release_signed_by_a_token(
    token: Token, tmp_path: Path, online_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = People(tmp_path, capsys)
    people.new("alice")
    made = token.does("keys", "new", "--out", str(tmp_path / "hsm.pem"), "--pkcs11", "Keys", "--id", "7")
    assert made["uri"] == "pkcs11:token=Keys;id=%07"
    assert not (tmp_path / "hsm.pem").exists()
    keys = (f"--root-key={people.public('alice')}", f"--targets-key={people.public('hsm')}")
    people.does("keys", "ceremony", "--out", people.folder, *keys, f"--online={online_file}")
    people.sign("alice")
    assert token.does("keys", "sign", people.folder, "--key", "pkcs11:token=Keys;id=%07")["missing"] == []
    it = Desk(tmp_path, Path(people.folder))
    what = ("--name", "talking-portrait", "--version", "1.0", "--base-model", it.file("base.bundle", BASE))
    sign = ("release", "sign", "--offline", people.folder, *what, "--out", str(it.package("1.0")))
    assert token.does(*sign, "--key", people.public("hsm"))["complete"]
    with Package.open(it.package("1.0")) as package:
        assert not package.missing
    with OfflineFolder.open(it.offline) as folder:  # verified again, without the token
        (key,) = folder.documents["targets"].signed.delegations.keys.values()
        assert (key.keytype, key.scheme) == ("ecdsa", "ecdsa-sha2-nistp256")

    again = ("keys", "new", "--out", str(tmp_path / "more.pem"), "--pkcs11", "Keys", "--id", "7")
    assert "has a key 7 already" in token.refused(*again)
    assert not (tmp_path / "more.pub").exists()
    people.does("keys", "renew", people.folder, "--document=lora")
    right = ("keys", "sign", people.folder, "--key", "pkcs11:token=Keys;id=%07")
    assert "cannot be used" in token.refused(*right, FRAMEFLEET_PKCS11_PIN="0000")
    assert "No PKCS#11 token found" in token.refused(*right[:-1], "hsm:7?label=Other")


@pytest.fixture
def key_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A key service that really signs; returns the id of an ECDSA P-256 key there."""
    import boto3  # type: ignore[import-untyped]
    from moto.kms.utils import ECDSAPrivateKey
    from moto.server import ThreadedMotoServer

    def sign_digest(self: ECDSAPrivateKey, message: bytes, _algorithm: str) -> bytes:
        # moto hashes what it is told is a digest once more ("not yet implemented"); AWS does not.
        return bytes(self.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256()))))

    monkeypatch.setattr(ECDSAPrivateKey, "sign", sign_digest)
    port = free_port()
    thread = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    thread.start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "eu-central-1", "AWS_MAX_ATTEMPTS": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    made = boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")
    yield str(made["KeyMetadata"]["KeyId"])
    thread.stop()


@pytest.mark.slow
def test_first_documents_signed_by_a_key_service(
    key_service: str, tmp_path: Path, online_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = People(tmp_path, capsys)
    people.new("alice")
    uri = f"awskms:{key_service}"
    people.does("keys", "new", "--out", str(tmp_path / "service.pem"), "--uri", uri)
    keys = (f"--root-key={people.public('alice')}", f"--targets-key={people.public('service')}")
    people.does("keys", "ceremony", "--out", people.folder, *keys, f"--online={online_file}")
    people.sign("alice")
    assert people.does("keys", "sign", people.folder, "--key", people.public("service"))["missing"] == []
    with OfflineFolder.open(Path(people.folder)):
        pass
    assert "cannot be used" in people.refused("keys", "new", "--out", str(tmp_path / "x.pem"), "--uri", "awskms:nobody")


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("gopher:1", "names no kind of key"),
        ("gcpkms:projects/p", "give a public key file"),
        ("pkcs11:token=Keys", "must be written as"),
        ("pkcs11:token=Keys;id=%02;object=x", "must be written as"),
        ("pkcs11:id=%01%02%03%04%05%06%07%08%09", "must be written as"),
        ("hsm:two", "cannot be used"),
        ("file:nobody.pem", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_a_key_that_is_none_is_said_in_one_sentence(
    uri: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PKCS11LIB", str(tmp_path / "no-module.so"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandFailed, match=sentence):
        signers.load(uri)


def test_a_token_needs_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PKCS11LIB", raising=False)
    monkeypatch.delenv("PYKCS11LIB", raising=False)
    with pytest.raises(CommandFailed, match="Set PKCS11LIB"):
        signers.load("pkcs11:token=Keys;id=%02")


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where framefleet[ctl] alone is installed."""
    for module in ("_hsm_signer.PKCS11_IMPORT_ERROR", "_aws_signer.AWS_IMPORT_ERROR"):
        monkeypatch.setattr(f"securesystemslib.signer.{module}", "required")
    monkeypatch.setenv("PKCS11LIB", "module.so")
    with pytest.raises(CommandFailed, match=r"pip install 'framefleet\[pkcs11\]'"):
        signers.load("pkcs11:token=Keys;id=%02")
    with pytest.raises(CommandFailed, match=r"pip install 'framefleet\[kms\]'"):
        signers.load("awskms:1")


@pytest.mark.slow
def test_keys_ceremonies_and_releases_touch_no_network(tmp_path: Path, online_file: Path) -> None:
    """In a network namespace of its own there is not even a loopback to talk to."""
    if subprocess.run(["unshare", "--net", "--map-root-user", "true"], capture_output=True).returncode:
        pytest.skip("This machine lets nobody take the network away from a process (unshare --net).")
    (tmp_path / "base.bundle").write_bytes(BASE)
    lines = f"""
        keys new --out alice.pem
        keys new --out bob.pem
        keys ceremony --out folder --online {online_file} --root-key alice.pub --root-key bob.pub --root-threshold 2 \
            --targets-key bob.pub
        keys sign folder --key alice.pem
        keys sign folder --key bob.pem
        release sign --offline folder --key bob.pub --name portrait --version 1.0 --base-model base.bundle --out 1.zip
        keys rotate folder --role targets --add alice.pub --threshold 2
        keys sign folder --key bob.pem
        keys sign folder --key alice.pem
        keys status folder
    """
    commands = [line.split() for line in lines.replace("\\\n", "").strip().splitlines()]
    script = f"from framectl.__main__ import main\nassert [main(one) for one in {commands!r}] == [0] * {len(commands)}"
    done = subprocess.run(
        ["unshare", "--net", "--map-root-user", sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with OfflineFolder.open(tmp_path / "folder") as folder:
        assert folder.documents["root"].signed.version == 2
    assert main(["keys", "status", str(tmp_path / "folder")]) == 0
