import zipfile
from pathlib import Path

import pytest

from framectl.errors import CommandFailed
from framectl.package import RELEASE, Package
from tests.framectl.conftest import Desk


def rewritten(desk: Desk, **changes: object) -> Path:
    """The signed 1.0 package with members added, replaced, removed (None) or compressed."""
    desk.sign_base()
    out = desk.path / "odd.zip"
    extra = changes.pop("extra", {})
    compress = bool(changes.pop("compress", False))
    assert isinstance(extra, dict)
    with zipfile.ZipFile(desk.package("1.0")) as source, zipfile.ZipFile(out, "w") as target:
        members = {name: source.read(name) for name in source.namelist()} | extra
        for name, content in members.items():
            if content is not None:
                target.writestr(name, content, zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)
    return out


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"../../evil": b"x"}, "unexpected member"),
        ({"/etc/passwd": b"x"}, "unexpected member"),
        ({"artifacts/../release.json": b"x"}, "unexpected member"),
        ({"metadata/root.json": b"{}"}, "unexpected member"),
        ({"metadata/base.json": b"not json"}, "base document cannot be read"),
        ({"metadata/base.json": b'{"signed":{"_type":"root"},"signatures":[]}'}, "base document"),
        ({"artifacts/" + "0" * 64: b"x"}, "does not list"),
        ({RELEASE: None}, "no release.json"),
        ({RELEASE: b"{}"}, "not a release manifest"),
        ({RELEASE: b"x" * 70_000}, "at most"),
        ({f"artifacts/{number:064x}": b"x" for number in range(40)}, "members"),
    ],
)
def test_an_odd_package_is_refused(desk: Desk, extra: dict[str, bytes | None], sentence: str) -> None:
    with pytest.raises(CommandFailed, match=sentence):
        Package.open(rewritten(desk, extra=extra))


def test_a_compressed_package_is_refused_before_anything_is_unpacked(desk: Desk) -> None:
    with pytest.raises(CommandFailed, match=r"compressed|claims to hold more"):
        Package.open(rewritten(desk, compress=True))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 1000])
def test_a_file_that_is_no_package_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.zip").write_bytes(content)
    with pytest.raises(CommandFailed, match="not a complete release package"):
        Package.open(tmp_path / "p.zip")


def test_a_package_cut_anywhere_is_refused_with_a_sentence(desk: Desk) -> None:
    desk.sign_base()
    content = desk.package("1.0").read_bytes()
    cut = desk.path / "cut.zip"
    for length in range(0, len(content), len(content) // 40):
        cut.write_bytes(content[:length])
        with pytest.raises(CommandFailed):
            Package.open(cut)
