"""An offline folder, a base model and adapters, made with the real command line."""

import hashlib
import io
import json
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from framectl.__main__ import main

BASE = b"a base model" * 20_000


def adapter(base: bytes, fill: bytes = b"\x01", **words: str) -> bytes:
    """A safetensors file bound to ``base``; only its header matters here."""
    words = {"base_model": hashlib.sha256(base).hexdigest(), **words}
    header = json.dumps({"__metadata__": words, "a": {"dtype": "F16", "shape": [500], "data_offsets": [0, 1000]}})
    return struct.pack("<Q", len(header)) + header.encode() + fill * 1000


def agent_parts(version: str) -> dict[str, bytes]:
    """The least that makes an agent: name -> content."""
    says = f'"""Which agent this is."""\n\nAGENT_VERSION = "{version}"\n'.encode()
    return {
        "device_agent/__init__.py": b"", "device_agent/__main__.py": b"print('hello')\n", "device_agent/boot.py": b"",
        "device_agent/version.py": says, "protocol/__init__.py": b"",
    }  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], result: int) -> str:
    """The one sentence of a refusal."""
    text = capsys.readouterr()
    assert result == 1
    assert not text.out
    assert text.err.count("\n") == 1
    return text.err


def zipped(parts: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", how) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return content.getvalue()


def agent(version: str) -> bytes:
    """An agent's file."""
    return zipped(agent_parts(version))


@dataclass(frozen=True)
class Desk:
    """An engineer's desk: a folder for files, one for the keys."""

    path: Path
    offline: Path

    def file(self, name: str, content: bytes) -> str:
        target = self.path / name
        target.write_bytes(content)
        return str(target)

    def sign(self, version: str, *arguments: str) -> int:
        """``framectl release sign`` into ``<version>.zip``."""
        return main(
            ["release", "sign", "--offline", str(self.offline), "--name", "talking-portrait", "--version", version,
             "--out", str(self.package(version)), *arguments]
        )  # fmt: skip

    def sign_base(self, version: str = "1.0", content: bytes = BASE) -> int:
        return self.sign(version, "--base-model", self.file("base.bundle", content))

    def sign_adapter(self, version: str = "1.1", content: bytes | None = None, base_version: str = "1.0") -> int:
        file = self.file(f"{version}.adapter", adapter(BASE) if content is None else content)
        return self.sign(version, "--base-release", f"talking-portrait {base_version}", "--adapter", file)

    def package(self, version: str) -> Path:
        return self.path / f"{version}.zip"

    def metadata(self) -> dict[str, bytes]:
        """Everything in the offline folder that signing may change."""
        folders = (self.offline / "metadata", self.offline / "releases")
        return {str(path): path.read_bytes() for folder in folders for path in sorted(folder.iterdir())}


@pytest.fixture
def online_file(tmp_path: Path) -> Path:
    """The answer of GET online-keys/."""
    keys = {}
    for name in ("snapshot", "timestamp", "director"):
        public = CryptoSigner.generate_ed25519().public_key
        keys[name] = {"keyid": public.keyid, "key": public.to_dict()}
    path = tmp_path / "online.json"
    path.write_text(json.dumps(keys))
    return path


@pytest.fixture
def desk(tmp_path: Path, online_file: Path) -> Desk:
    offline = tmp_path / "offline"
    assert main(["keys", "create", "--out", str(offline), "--online", str(online_file)]) == 0
    return Desk(tmp_path, offline)


@pytest.fixture
def var(tmp_path: Path, settings: Any) -> Path:
    """State of its own: online keys and artifacts."""
    from ota import keys

    var = tmp_path / "var"
    var.mkdir()
    settings.FRAMEFLEET_VAR = var
    artifacts = {**settings.STORAGES["artifacts"], "OPTIONS": {"location": var / "artifacts"}}
    settings.STORAGES = {**settings.STORAGES, "artifacts": artifacts}
    keys.make_missing()
    return var


@pytest.fixture
def server(var: Path, live_server: Any, monkeypatch: pytest.MonkeyPatch, django_user_model: Any) -> str:
    """A running server that ``framectl`` knows."""
    from fleet.services.tokens import create_token
    from tests.fleet.factories import make_user

    user = make_user("eng")
    monkeypatch.setenv("FRAMEFLEET_SERVER", live_server.url)
    monkeypatch.setenv("FRAMEFLEET_TOKEN", create_token(user, "tests"))
    return str(live_server.url)
