"""An agent's file: a zip of the packages ``device_agent`` and ``protocol``, which Python runs as it lies.

It is packed byte for byte the same from the same sources, and read without running anything that is in it: the version
that it will report is one line of ``device_agent/version.py``.
"""

import ast
import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec

from framectl.errors import CommandFailed
from framectl.files import read_file
from protocol.chunks import sha256_hex
from protocol.limits import MAX_MESSAGE
from protocol.messages import Word

PACKAGES = ("device_agent", "protocol")
MAIN = "device_agent/__main__.py"
VERSION = "device_agent/version.py"
NEEDED = (MAIN, VERSION, *(f"{package}/__init__.py" for package in PACKAGES))
MAX_FILE = 32 * 1024 * 1024
MAX_UNPACKED = 64 * 1024 * 1024
MAX_MEMBERS = 4096

_LEFT_OUT = ("__pycache__", "tests")
_COMPILED = (".pyc", ".pyo")
_DOTTED = re.compile(r"[0-9][0-9A-Za-z._+-]*")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_PIECE = 1024 * 1024
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError, OverflowError)
"""What ``zipfile`` raises over bytes that are no zip, or no whole one."""


@dataclass(frozen=True, slots=True)
class AgentFile:
    """What a file says about the agent in it; ``length`` in bytes."""

    version: str
    length: int
    sha256: str


def read_agent(path: Path) -> AgentFile:
    """The agent in a file. Raises CommandFailed with one sentence unless a frame can run it as it lies."""
    return check_agent(read_file(path, MAX_FILE), str(path))


def check_agent(data: bytes, label: str) -> AgentFile:
    """The same of bytes; ``label`` is what people call them."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _members(archive, label)
            for name in NEEDED:
                if name not in members:
                    raise CommandFailed(f"{label} has no {name}: make it with `framectl agent pack`.")
            for info in members.values():
                with archive.open(info) as member:
                    while member.read(_PIECE):
                        pass
            if members[VERSION].file_size > MAX_MESSAGE:
                raise CommandFailed(f"{label} has a {VERSION} of more than {MAX_MESSAGE} bytes: shorten it.")
            version = _version(archive.read(members[VERSION]), label)
    except _DAMAGED:
        raise CommandFailed(f"{label} is not a whole agent file: make it with `framectl agent pack`.") from None
    return AgentFile(version, len(data), sha256_hex(data))


def pack_agent(source: Path | None) -> bytes:
    """The agent's file of the two packages below ``source`` (None: of the installed ones). Raises CommandFailed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, path in sorted(_sources(source)):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = _UNIX  # else it would say where it was packed
            info.external_attr = 0o644 << 16
            try:
                archive.writestr(info, path.read_bytes(), compresslevel=9)
            except OSError as error:
                raise CommandFailed(f"{path} cannot be read: {error.strerror or error}.") from None
    data = content.getvalue()
    if len(data) > MAX_FILE:
        raise CommandFailed(f"Packed, this agent has {len(data)} bytes, and {MAX_FILE} are allowed: pack less.")
    check_agent(data, "What was packed")
    return data


def _sources(source: Path | None) -> Iterator[tuple[str, Path]]:
    """Name in the zip -> file: sources and the packages' data, nothing hidden, compiled or left behind by an editor."""
    for package in PACKAGES:
        top = _installed(package) if source is None else source / package
        if not top.is_dir():
            raise CommandFailed(f"There is no folder {top}: name with --source the folder that holds {package}/.")
        for folder, folders, files in os.walk(top):
            folders[:] = [name for name in folders if name not in _LEFT_OUT and not name.startswith(".")]
            for name in files:
                if name.startswith(".") or name.endswith(("~", *_COMPILED)):
                    continue
                path = Path(folder, name)
                yield f"{package}/{path.relative_to(top).as_posix()}", path


def _installed(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise CommandFailed(f"{package} is not installed here: name the folder that holds it with --source.")
    return Path(spec.origin).parent


def _members(archive: zipfile.ZipFile, label: str) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise CommandFailed(f"{label} has {len(infos)} members, and {MAX_MEMBERS} are allowed: pack less.")
    unpacked = sum(info.file_size for info in infos)
    if unpacked > MAX_UNPACKED:
        raise CommandFailed(f"{label} has {unpacked} bytes unpacked, and {MAX_UNPACKED} are allowed: pack less.")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename
        if not _is_plain(name.removesuffix("/")) or name in members:
            raise CommandFailed(
                f"{label} has a member {name[:80]!r}, which is no plain name or is there twice: "
                "make it with `framectl agent pack`."
            )
        if name.endswith(_COMPILED):
            raise CommandFailed(f"{label} has {name[:80]}, which frames would run instead of its source: leave it out.")
        if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CommandFailed(
                f"{label} has {name[:80]} encrypted or packed in a way that Python cannot import: "
                "make it with `framectl agent pack`."
            )
        members[name] = info
    return members


def _is_plain(name: str) -> bool:
    return name.isprintable() and "\\" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def _version(source: bytes, label: str) -> str:
    """What ``AGENT_VERSION`` is set to, by looking only."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise CommandFailed(f"{label} has a {VERSION} that is no Python: mend it and pack again.") from None
    found = [
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        if any(isinstance(name, ast.Name) and name.id == "AGENT_VERSION" for name in node.targets)
    ]
    try:
        (version,) = found
        word = msgspec.convert(version, Word)
    except ValueError:
        word = ""
    if not _DOTTED.fullmatch(word):
        raise CommandFailed(
            f'{label} does not say which agent it is: {VERSION} needs one line such as AGENT_VERSION = "1.2.0".'
        )
    return word
