"""An agent's zip in which a frame's Python could find something else than whoever signs it is refused."""

import io
import struct
import zipfile
import zipimport
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from framectl.agent_zip import unzipped
from framectl.agents import check_agent
from framectl.errors import CommandFailed
from tests.framectl.conftest import agent, agent_parts, zipped

SHOWN, HIDDEN = b'AGENT_VERSION = "1.0"\n', b'AGENT_VERSION = "2.0"\n'
VERSION = "device_agent/version.py"


def directory(data: bytes) -> int:
    """Where the directory begins."""
    (start,) = struct.unpack_from("<L", data, len(data) - 6)
    return int(start)


def gap(data: bytes, between: bytes = b"nobody's") -> bytes:
    """Bytes behind the last member that the end record accounts for."""
    start = directory(data)
    return data[:start] + between + data[start:-6] + struct.pack("<LH", start + len(between), 0)


def commented() -> bytes:
    content = io.BytesIO(agent("1.0"))
    with zipfile.ZipFile(content, "a") as archive:
        archive.comment = b"nothing to see"
    return content.getvalue()


def disguised() -> bytes:
    """A comment that reads like an end record but for its first bytes."""
    data = agent("1.0")
    start, end = directory(data), len(data) - 22
    comment = struct.pack("<4s4H2LH", b"none", 0, 0, 4, 4, end + 22 - start, start, 0)
    return data[:-2] + struct.pack("<H", len(comment)) + comment


def prefixed() -> bytes:
    """As Python makes programs of archives: every offset counts what stands before."""
    content = io.BytesIO(b"#!/bin/sh\n")
    with zipfile.ZipFile(content, "a") as archive:
        for name, part in agent_parts("1.0").items():
            archive.writestr(name, part)
    return content.getvalue()


def saying(packed: bytes, listed: tuple[int, int, int], how: int = zipfile.ZIP_STORED) -> bytes:
    """``version.py`` is ``packed``, and the directory has another method, CRC and length for it: ``listed``."""
    data = bytearray(zipped({**agent_parts("1.0"), VERSION: packed}, how))
    entry = data.rindex(VERSION.encode()) - 46
    method, crc, length = listed
    struct.pack_into("<H", data, entry + 10, method)
    struct.pack_into("<L", data, entry + 16, crc)
    struct.pack_into("<L", data, entry + 24, length)
    return bytes(data)


def said_shorter(how: int, crc_of: bytes = SHOWN) -> bytes:
    """``version.py`` goes on behind the length that it is said to have."""
    return saying(SHOWN + HIDDEN, (how, zlib.crc32(crc_of), len(SHOWN)), how)


def deflated(ending: int, behind: bytes = b"") -> bytes:
    """``version.py`` packed up to this ending, and something behind it."""
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(SHOWN) + packer.flush(ending) + behind
    return saying(packed, (zipfile.ZIP_DEFLATED, zlib.crc32(SHOWN), len(SHOWN)))


def two_directories() -> bytes:
    """The last entry of the directory has another directory in its comment, and what zip64 needs to point to it."""
    data = agent("1.0")
    start, end = directory(data), len(data) - 22
    second = data[start:end]
    first = second.replace(VERSION.encode(), b"device_agent/version.no")
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 4, 4, len(second), start + len(first))
    comment = second + record + struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(first) + len(second), 1)
    entry = first.rindex(b"PK\x01\x02")
    first = first[: entry + 32] + struct.pack("<H", len(comment)) + first[entry + 34 :]
    whole = first + comment
    return data[:start] + whole + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 4, 4, len(whole), start, 0)


def null_in_name() -> bytes:
    return zipped({**agent_parts("1.0"), "device_agent/spare.py@x": b""}).replace(b"spare.py@x", b"spare.py\0x")


def described(change: Callable[[zipfile.ZipInfo], None]) -> bytes:
    content = io.BytesIO(agent("1.0"))
    info = zipfile.ZipInfo("device_agent/other.py")
    change(info)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(info, b"")
    return content.getvalue()


def with_extra(info: zipfile.ZipInfo) -> None:
    info.extra = struct.pack("<2H", 0x7075, 0)


def with_comment(info: zipfile.ZipInfo) -> None:
    info.comment = b"x"


def as_link(info: zipfile.ZipInfo) -> None:
    info.external_attr = 0o120777 << 16


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda: b"#!/bin/sh\n" + agent("1.0"), "bytes that belong to none of its members"),
        (lambda: agent("1.0") + b"xxxx", "bytes that belong to none of its members"),
        (lambda: agent("1.0") + agent("2.0"), "bytes that belong to none of its members"),
        (prefixed, "bytes that belong to none of its members"),
        (disguised, "bytes that belong to none of its members"),
        (commented, "bytes that belong to none of its members"),
        (lambda: gap(agent("1.0")), "bytes that belong to none of its members"),
        (two_directories, "bytes that belong to none of its members"),
        (lambda: said_shorter(zipfile.ZIP_STORED), "not a whole agent file"),
        (lambda: said_shorter(zipfile.ZIP_DEFLATED), "not a whole agent file"),
        (lambda: said_shorter(zipfile.ZIP_STORED, SHOWN + HIDDEN), "not a whole agent file"),
        (lambda: said_shorter(zipfile.ZIP_DEFLATED, SHOWN + HIDDEN), "not a whole agent file"),
        (lambda: deflated(zlib.Z_SYNC_FLUSH), "not a whole agent file"),
        (lambda: deflated(zlib.Z_FINISH, HIDDEN), "not a whole agent file"),
        (null_in_name, "which is no plain name"),
        (lambda: described(with_extra), "device_agent/other.py as a link, or with more about it"),
        (lambda: described(with_comment), "device_agent/other.py as a link, or with more about it"),
        (lambda: described(as_link), "device_agent/other.py as a link, or with more about it"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_in_one_sentence(content: Callable[[], bytes], sentence: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        check_agent(content(), "It")
    said = str(caught.value)
    assert sentence in said
    assert said.startswith("It ")
    assert said.endswith(": make it with `framectl agent pack`.")
    assert said.isprintable()


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_frames_would_have_read_on_where_zipfile_stops(how: int, tmp_path: Path) -> None:
    """Why lengths are checked here."""
    file = tmp_path / "agent.zip"
    file.write_bytes(said_shorter(how))
    with zipfile.ZipFile(file) as archive:
        assert archive.read(VERSION) == SHOWN
    assert zipimport.zipimporter(str(file)).get_data(VERSION) == SHOWN + HIDDEN


def test_frames_would_have_taken_the_other_directory(tmp_path: Path) -> None:
    file = tmp_path / "agent.zip"
    file.write_bytes(two_directories())
    with zipfile.ZipFile(file) as archive:
        assert archive.read(VERSION)
    with pytest.raises(OSError, match=r"version\.py"):
        zipimport.zipimporter(str(file)).get_data(VERSION)


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_whole_zip_gives_what_it_was_made_of(how: int) -> None:
    parts = {**agent_parts("1.0"), "protocol/words/": b"", "protocol/words/zh.json": b"{}" * 1000}
    assert unzipped(zipped(parts, how), "It") == parts
    assert unzipped(deflated(zlib.Z_FINISH), "It")[VERSION] == SHOWN
