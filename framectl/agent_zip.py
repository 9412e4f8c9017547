"""The members of an agent's zip, as the frame's Python finds them.

``zipfile`` reads here, ``zipimport`` on the frame, and people have tools of their own. They differ: one stops at the
length that a member is said to have, the other unpacks all of it; one takes a second directory where there is one. So
a zip in which they could find different things is refused: every byte belongs to one member or to the one directory,
and every member is exactly as long as it says.
"""

import io
import stat
import struct
import zipfile
import zlib

from framectl.errors import CommandFailed

MAX_UNPACKED = 64 * 1024 * 1024
MAX_MEMBERS = 4096
MAX_NAME = 255

_LOCAL = 30
"""Bytes of a member's header before its name."""
_END = struct.Struct("<4s4H2LH")
"""The end record: signature, four numbers, length and start of the directory, length of a comment."""
_LOCATOR = (20, b"PK\x06\x07")
"""Stands before the end record where a second directory's end record does (zip64): its length, how it begins."""
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError, OverflowError)
"""What ``zipfile`` raises over bytes that are no zip, or no whole one."""


def unzipped(data: bytes, label: str) -> dict[str, bytes]:
    """Name -> content of every member; those of folders end in "/". Raises CommandFailed with one sentence."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            _refuse_long(infos, label)
            members: dict[str, bytes] = {}
            for info in infos:
                name = _name(info, label)
                if name in members:
                    raise CommandFailed(f"{label} has {name[:80]} twice: make it with `framectl agent pack`.")
                archive.open(info).close()  # whether its two headers agree
                members[name] = _content(data, info)
            _refuse_strays(data, infos, label)
    except _DAMAGED:
        raise CommandFailed(f"{label} is not a whole agent file: make it with `framectl agent pack`.") from None
    return members


def _refuse_long(infos: list[zipfile.ZipInfo], label: str) -> None:
    if len(infos) > MAX_MEMBERS:
        raise CommandFailed(f"{label} has {len(infos)} members, and {MAX_MEMBERS} are allowed: pack less.")
    unpacked = sum(info.file_size for info in infos)
    if unpacked > MAX_UNPACKED:
        raise CommandFailed(f"{label} has {unpacked} bytes unpacked, and {MAX_UNPACKED} are allowed: pack less.")


def _name(info: zipfile.ZipInfo, label: str) -> str:
    name = info.orig_filename  # the other one ends at a null byte
    plain = name.isprintable() and "\\" not in name and len(name) <= MAX_NAME
    if not plain or any(part in ("", ".", "..") for part in name.removesuffix("/").split("/")):
        raise CommandFailed(
            f"{label} has a member {name[:80]!r}, which is no plain name: make it with `framectl agent pack`."
        )
    if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CommandFailed(
            f"{label} has {name[:80]} encrypted or packed in a way that Python cannot import: "
            "make it with `framectl agent pack`."
        )
    if info.extra or info.comment or stat.S_ISLNK(info.external_attr >> 16):
        raise CommandFailed(
            f"{label} has {name[:80]} as a link, or with more about it than Python reads: "
            "make it with `framectl agent pack`."
        )
    return name


def _content(data: bytes, info: zipfile.ZipInfo) -> bytes:
    start = _start(data, info)
    content = data[start : start + info.compress_size]
    whole = True
    if info.compress_type == zipfile.ZIP_DEFLATED:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        content = unpacker.decompress(content, info.file_size + 1)
        whole = unpacker.eof and not unpacker.unused_data
    if not whole or len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        raise zipfile.BadZipFile
    return content


def _start(data: bytes, info: zipfile.ZipInfo) -> int:
    """Where a member's content begins."""
    name, extra = struct.unpack_from("<HH", data, info.header_offset + _LOCAL - 4)
    return info.header_offset + _LOCAL + int(name) + int(extra)


def _refuse_strays(data: bytes, infos: list[zipfile.ZipInfo], label: str) -> None:
    """Before, between and behind the members, behind the end record, or in a second directory."""
    end = len(data) - _END.size
    signature, *_, length, start, comment = _END.unpack(data[end:])
    position = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        if info.header_offset != position:
            break
        position = _start(data, info) + info.compress_size
    ends = signature == b"PK\x05\x06" and not comment
    zip64 = data[:end][-_LOCATOR[0] :].startswith(_LOCATOR[1])
    if not ends or zip64 or (start, start + length) != (position, end):
        raise CommandFailed(
            f"{label} has bytes that belong to none of its members: make it with `framectl agent pack`."
        )
