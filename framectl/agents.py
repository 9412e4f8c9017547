"""An agent's file: a zip of the packages ``device_agent`` and ``protocol``, which Python runs as it lies.

It is packed byte for byte the same from the same sources, and read without running anything that is in it: the version
that it will report is the one line of ``device_agent/version.py``. What it shows is what a frame would run: nothing in
it hides what the image has, and every source is text that compiles.
"""

import ast
import io
import os
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from framectl.agent_zip import unzipped
from framectl.errors import CommandFailed
from framectl.files import read_file
from protocol.chunks import sha256_hex
from protocol.limits import MAX_MESSAGE
from protocol.messages import Word

PACKAGES = ("device_agent", "protocol")
MAIN = "device_agent/__main__.py"
BOOT = "device_agent/boot.py"
"""An agent without it could never give way to another one."""
VERSION = "device_agent/version.py"
NEEDED = (MAIN, BOOT, VERSION, *(f"{package}/__init__.py" for package in PACKAGES))
MAX_FILE = 32 * 1024 * 1024
MAX_SOURCE = 256 * 1024
"""Of one module: Python takes some 700 times that to compile the worst of them."""
MAX_SOURCES = 8 * 1024 * 1024
"""Of all modules together."""

_LEFT_OUT = ("__pycache__", "tests")
_COMPILED = (".pyc", ".pyo")
_HIDDEN = (*_COMPILED, ".so", ".pyd")
"""Code that nobody can read."""
_DOTTED = re.compile(r"[0-9][0-9A-Za-z._+-]*")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


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
    members = unzipped(data, label)
    for name in NEEDED:
        if name not in members:
            raise CommandFailed(f"{label} has no {name}: make it with `framectl agent pack`.")
    for name in members:
        _check_name(name, label)
    _refuse_doubles(members, label)
    sources = {name: text for name, text in members.items() if name.endswith(".py")}
    total = sum(map(len, sources.values()))
    if total > MAX_SOURCES:
        raise CommandFailed(f"{label} has {total} bytes of Python, and {MAX_SOURCES} are allowed: pack less.")
    for name, text in sources.items():
        limit = MAX_MESSAGE if name == VERSION else MAX_SOURCE
        if len(text) > limit:
            raise CommandFailed(f"{label} has a {name[:80]} of more than {limit} bytes: shorten it.")
        _compiled(name, text, label)
    return AgentFile(_version(sources[VERSION], label), len(data), sha256_hex(data))


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
            files = [name for name in files if not name.startswith(".") and not name.endswith(("~", *_COMPILED))]
            for path in (Path(folder), *(Path(folder, name) for name in folders + files)):
                if path.is_symlink():
                    raise CommandFailed(f"{path} is a symbolic link: put what it points to in its place.")
            for name in files:
                path = Path(folder, name)
                yield f"{package}/{path.relative_to(top).as_posix()}", path


def _installed(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise CommandFailed(f"{package} is not installed here: name the folder that holds it with --source.")
    return Path(spec.origin).parent


def _check_name(name: str, label: str) -> None:
    """The zip comes first on the path: whatever else lay in it, a frame would take before the image's own."""
    if name.partition("/")[0] not in PACKAGES or "/" not in name:
        raise CommandFailed(f"{label} has {name[:80]}, which lies in neither {' nor '.join(PACKAGES)}: leave it out.")
    if name.lower().endswith(_HIDDEN):
        raise CommandFailed(
            f"{label} has {name[:80]}, which is compiled, so nobody can read what it does: leave it out."
        )


def _refuse_doubles(names: Iterable[str], label: str) -> None:
    """No module beside a package of the same name, also where upper and lower case are one."""
    known: dict[str, str] = {}
    for name in names:
        folder = name.rpartition("/")[0]
        mine = {} if name.endswith("/") else {name.removesuffix(".py"): name}
        while folder:
            mine[folder] = f"{folder}/"
            folder = folder.rpartition("/")[0]
        for path, spelled in mine.items():
            other = known.setdefault(path.casefold(), spelled)
            if other != spelled:
                raise CommandFailed(
                    f"{label} has both {other[:80]} and {spelled[:80]}, and a frame would take one for the other: "
                    "rename one of them."
                )


def _compiled(name: str, source: bytes, label: str, flags: int = 0) -> Any:
    """As a frame will compile it, without running it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compile(source, name, "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        raise CommandFailed(f"{label} has a {name[:80]} that is no Python: mend it and pack again.") from None


def _version(source: bytes, label: str) -> str:
    """What ``AGENT_VERSION`` is set to, by looking only; nothing else may be there that could set it."""
    tree = _compiled(VERSION, source, label, ast.PyCF_ONLY_AST)
    match tree.body[1:] if ast.get_docstring(tree) is not None else tree.body:
        case [ast.Assign(targets=[ast.Name(id="AGENT_VERSION")], value=ast.Constant(value=str(word)))]:
            pass
        case _:
            word = ""
    try:
        word = msgspec.convert(word, Word)
    except ValueError:
        word = ""
    if not _DOTTED.fullmatch(word):
        raise CommandFailed(
            f'{label} does not say plainly which agent it is: {VERSION} needs one line such as AGENT_VERSION = "1.2.0" '
            "and nothing else but a docstring."
        )
    return word
