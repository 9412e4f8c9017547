"""An agent's file: packed the same every time, runs as it lies, and is read without running it."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framectl import agent_zip, agents
from framectl.__main__ import main
from framectl.agents import check_agent, read_agent
from framectl.errors import CommandFailed
from tests.framectl.conftest import agent, agent_parts, zipped

ROOT = Path(__file__).parents[2]


def run(file: Path, *arguments: str) -> str:
    """What Python prints with this file first on its path, outside of the checkout."""
    done = subprocess.run(
        [sys.executable, "-P", *arguments], env={**os.environ, "PYTHONPATH": str(file)}, cwd=file.parent,
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("agent") / "agent.zip"
    assert main(["agent", "pack", "--out", str(file)]) == 0
    return file


def test_what_is_packed_runs_as_it_lies(packed: Path) -> None:
    assert "run this frame's agent" in run(packed, "-m", "device_agent", "--help")
    where = "import device_agent, protocol; print(device_agent.__file__, protocol.__file__)"
    assert run(packed, "-c", where).split() == [f"{packed}/{package}/__init__.py" for package in agents.PACKAGES]


def test_the_same_source_gives_the_same_bytes(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    for package in agents.PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o700)
    capsys.readouterr()
    assert main(["agent", "pack", "--source", str(copy), "--out", str(tmp_path / "again.zip"), "--json"]) == 0
    data = packed.read_bytes()
    assert (tmp_path / "again.zip").read_bytes() == data
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "file": str(tmp_path / "again.zip"), "version": read_agent(packed).version, "length": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip


def sources(folder: Path, parts: dict[str, bytes]) -> Path:
    for name, data in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_sources_and_data_are_packed_and_nothing_else(tmp_path: Path) -> None:
    wanted = {**agent_parts("1.2"), "device_agent/page/words.json": b"{}"}
    left = ["tests/test_a.py", "device_agent/tests/test_b.py", "device_agent/__pycache__/a.pyc", "device_agent/b.pyc",
            "device_agent/.hidden", "device_agent/a.py~", "ota/__init__.py"]  # fmt: skip
    source = sources(tmp_path, {**wanted, **dict.fromkeys(left, b"")})
    with zipfile.ZipFile(io.BytesIO(agents.pack_agent(source))) as archive:
        assert archive.namelist() == sorted(wanted)
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["agent", "pack", *arguments]) == 1
    text = capsys.readouterr()
    assert (text.out, text.err.count("\n")) == ("", 1)
    return text.err


def test_a_source_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "agent.zip"
    here = ("--source", str(tmp_path), "--out", str(out))
    assert "name with --source the folder that holds device_agent/" in refused(capsys, *here)
    sources(tmp_path, agent_parts("1.0"))
    (tmp_path / "device_agent/version.py").write_text("")
    assert "does not say plainly which agent it is" in refused(capsys, *here)
    assert not out.exists()


@pytest.mark.parametrize("link", ["device_agent", "device_agent/page", "protocol/words.py", "protocol/gone.py"])
def test_a_symbolic_link_in_the_source_is_refused(
    link: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = sources(tmp_path / "source", agent_parts("1.0"))
    elsewhere = tmp_path / "elsewhere"
    sources(elsewhere, {"words.py": b"", "device_agent/page/a.py": b""})
    if link == "device_agent":
        (source / link).rename(elsewhere / "moved")
    target = {"device_agent": "moved", "device_agent/page": "device_agent/page"}.get(link, Path(link).name)
    (source / link).symlink_to(elsewhere / target)
    said = refused(capsys, "--source", str(source), "--out", str(tmp_path / "agent.zip"))
    assert f"{source / link} is a symbolic link: put what it points to in its place." in said
    assert not (tmp_path / "agent.zip").exists()


def test_a_link_that_is_not_packed_is_nobodys_concern(tmp_path: Path) -> None:
    source = sources(tmp_path, {**agent_parts("1.0"), "device_agent/tests/a.py": b""})
    (source / "device_agent/.#agent.py").symlink_to("somebody@somewhere.1234")  # as an editor leaves it
    (source / "device_agent/tests/b.py").symlink_to("a.py")
    assert agents.pack_agent(source)


def test_a_file_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "agent.zip"
    out.write_bytes(b"somebody's file")
    source = sources(tmp_path, agent_parts("1.0"))
    assert "exists already" in refused(capsys, "--source", str(source), "--out", str(out))
    assert out.read_bytes() == b"somebody's file"


def test_a_file_says_which_agent_it_is(tmp_path: Path) -> None:
    file = tmp_path / "agent.zip"
    file.write_bytes(agent("2.0rc1"))
    found = read_agent(file)
    assert (found.version, found.length) == ("2.0rc1", file.stat().st_size)
    with zipfile.ZipFile(file, "a") as archive:  # as other tools make it
        archive.writestr("device_agent/", b"")
        archive.writestr("protocol/README", b"")
    assert read_agent(file).version == "2.0rc1"


def without(name: str) -> bytes:
    return zipped({key: data for key, data in agent_parts("1.0").items() if key != name})


def also(name: str, data: bytes = b"") -> bytes:
    return zipped({**agent_parts("1.0"), name: data})


def saying(source: bytes) -> bytes:
    return zipped({**agent_parts("1.0"), "device_agent/version.py": source})


def twice() -> bytes:
    content = io.BytesIO(agent("1.0"))
    with zipfile.ZipFile(content, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("device_agent/version.py", b'AGENT_VERSION = "9"')
    return content.getvalue()


def encrypted() -> bytes:
    data = bytearray(agent("1.0"))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def rotten() -> bytes:
    """One bit of a file has changed."""
    return zipped(agent_parts("1.0"), zipfile.ZIP_STORED).replace(b"hello", b"hallo", 1)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda: b"", "not a whole agent file"),
        (lambda: b"PK\x05\x06" + bytes(18), "has no device_agent/__main__.py"),
        (lambda: agent("1.0")[:-30], "not a whole agent file"),
        (rotten, "not a whole agent file"),
        (lambda: without("device_agent/__main__.py"), "has no device_agent/__main__.py"),
        (lambda: without("device_agent/boot.py"), "has no device_agent/boot.py"),
        (lambda: without("device_agent/__init__.py"), "has no device_agent/__init__.py"),
        (lambda: without("device_agent/version.py"), "has no device_agent/version.py"),
        (lambda: without("protocol/__init__.py"), "has no protocol/__init__.py"),
        (lambda: also("../evil.py"), "'../evil.py', which is no plain name"),
        (lambda: also("/etc/evil.py"), "no plain name"),
        (lambda: also("device_agent//evil.py"), "no plain name"),
        (lambda: also("device_agent\\evil.py"), "no plain name"),
        (lambda: also("device_agent/\x1b[2J.py"), "no plain name"),
        (twice, "has device_agent/version.py twice"),
        (lambda: also("device_agent/version.pyc"), "version.pyc, which is compiled"),
        (lambda: also("device_agent/boot.cpython-311-x86_64-linux-gnu.so"), ".so, which is compiled"),
        (lambda: also("protocol/chunks.PYD"), "chunks.PYD, which is compiled"),
        (lambda: also("sitecustomize.py"), "sitecustomize.py, which lies in neither device_agent nor protocol"),
        (lambda: also("msgspec/__init__.py"), "msgspec/__init__.py, which lies in neither"),
        (lambda: also("Protocol/chunks.py"), "Protocol/chunks.py, which lies in neither"),
        (lambda: also("protocol"), "protocol, which lies in neither"),
        (lambda: also("device_agent/version/__init__.py"), "both device_agent/version.py and device_agent/version/,"),
        (lambda: also("device_agent/version/words.json"), "both device_agent/version.py and device_agent/version/,"),
        (lambda: also("device_agent/Version/__init__.py"), "both device_agent/version.py and device_agent/Version/,"),
        (lambda: also("device_agent/Version.py"), "both device_agent/version.py and device_agent/Version.py,"),
        (encrypted, "encrypted or packed in a way"),
        (lambda: zipped(agent_parts("1.0"), zipfile.ZIP_LZMA), "encrypted or packed in a way"),
        (lambda: saying(b""), "does not say plainly which agent"),
        (lambda: saying(b"AGENT_VERSION = 1.0"), "does not say plainly which agent"),
        (lambda: saying(b'AGENT_VERSION = b"1.0"'), "does not say plainly which agent"),
        (lambda: saying(b"AGENT_VERSION = input()"), "does not say plainly which agent"),
        (lambda: saying(b'AGENT_VERSION = ""'), "does not say plainly which agent"),
        (lambda: saying(b'AGENT_VERSION = "v1"'), "does not say plainly which agent"),
        (lambda: saying(b'AGENT_VERSION = "%s"' % (b"1" * 65)), "does not say plainly which agent"),
        (lambda: saying(b'AGENT_VERSION = "1"\nAGENT_VERSION = "2"'), "does not say plainly which agent"),
        (lambda: saying(b'AGENT_VERSION = "1"\nAGENT_VERSION: str = "2"'), "does not say plainly which agent"),
        (lambda: saying(b'AGENT_VERSION: str = "1"'), "does not say plainly which agent"),
        (lambda: saying(b'AGENT_VERSION = "1"\n(AGENT_VERSION, x) = ("2", 1)'), "does not say plainly which agent"),
        (lambda: saying(b'AGENT_VERSION = OTHER = "1"'), "does not say plainly which agent"),
        (lambda: saying(b'AGENT_VERSION = "1"\nimport os'), "does not say plainly which agent"),
        (lambda: saying(b'AGENT_VERSION = "1"\n"""After it."""'), "does not say plainly which agent"),
        (lambda: saying(b'"""One."""\n"""Two."""\nAGENT_VERSION = "1"'), "does not say plainly which agent"),
        (lambda: saying(b'# It is\rAGENT_VERSION = "2"\nAGENT_VERSION = "1"'), "does not say plainly which agent"),
        (lambda: saying(b'if True:\n    AGENT_VERSION = "1"'), "does not say plainly which agent"),
        (lambda: saying(b"AGENT_VERSION = "), "version.py that is no Python"),
        (lambda: saying(b"\xff\xfe"), "version.py that is no Python"),
        (lambda: saying(b"(" * 5000), "version.py that is no Python"),
        (lambda: saying(b"#" * 70_000), "of more than 65536 bytes"),
        (lambda: also("device_agent/agent.py", b"def ("), "device_agent/agent.py that is no Python: mend it"),
        (lambda: also("device_agent/agent.py", b"return 1"), "device_agent/agent.py that is no Python"),
        (lambda: also("protocol/a.py", b"x = 1\0"), "protocol/a.py that is no Python"),
        (lambda: also("protocol/a.py", b"a" + b".a" * 50_000), "protocol/a.py that is no Python"),
        (lambda: also("protocol/a.py", b"-" * 50_000 + b"1"), "protocol/a.py that is no Python"),
        (lambda: also("protocol/a.py", b"#" * 262_145), "protocol/a.py of more than 262144 bytes"),
    ],
)
def test_what_frames_could_not_run_is_refused_in_one_sentence(content: Any, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "agent.zip"
    file.write_bytes(content())
    with pytest.raises(CommandFailed) as caught:
        read_agent(file)
    said = str(caught.value)
    assert sentence in said
    assert said.startswith(str(file))
    assert said.isprintable()


def test_sources_are_compiled_as_frames_will_and_not_run() -> None:
    """All ends of lines are good; what Python only warns of is the author's to know."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_agent(also("protocol/a.py", b"raise SystemExit('\\d')\r\nx = 1\r"), "It").version == "1.0"


@pytest.mark.parametrize(
    ("module", "bound", "limit", "sentence"),
    [
        (agents, "MAX_FILE", 100, "has more than the 100 bytes"),
        (agents, "MAX_SOURCES", 50, "bytes of Python, and 50 are allowed: pack less"),
        (agent_zip, "MAX_UNPACKED", 50, "bytes unpacked, and 50 are allowed"),
        (agent_zip, "MAX_MEMBERS", 3, "has 5 members, and 3 are allowed"),
        (agent_zip, "MAX_NAME", 20, "'device_agent/__init__.py', which is no plain name"),
    ],
)
def test_everything_is_bounded(
    module: ModuleType, bound: str, limit: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "agent.zip"
    file.write_bytes(agent("1.0"))
    monkeypatch.setattr(module, bound, limit)
    with pytest.raises(CommandFailed, match=sentence):
        read_agent(file)


WHOLE = agent("1.0")


def is_read_or_refused(data: bytes) -> None:
    try:
        assert check_agent(data, "It").sha256 == hashlib.sha256(data).hexdigest()
    except CommandFailed as refusal:
        assert str(refusal).isprintable()


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CommandFailed):
        check_agent(data, "It")


@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_cut_off_anywhere_is_refused(length: int) -> None:
    with pytest.raises(CommandFailed):
        check_agent(WHOLE[:length], "It")


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_file_with_changed_bytes_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    is_read_or_refused(bytes(data))
