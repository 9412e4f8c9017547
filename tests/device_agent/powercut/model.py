"""A disk in memory that keeps apart what was written and what is durable.

Bytes are durable once their file was synced, names once their folder was. Until then each pending change may survive
a cut or not, whatever became of the others: a rename can be there without the bytes of its file (a file of no bytes,
or of zeros where blocks were allocated and never written), one half of a rename between folders without the other, a
deletion or a new folder not at all. That is more than ext4 or f2fs do to anybody, and no less than POSIX lets them do.
A sync that failed leaves its bytes readable and lost: a later sync that succeeds does not bring them back.
"""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

from tests.device_agent.powercut.inodes import File, Folder, Named, Piece

BLOCK = 4096


def healthy(operation: str, path: Path) -> None:
    """What a disk that does what it should does before each change."""
    del operation, path


class ModelDisk:
    """See the module's text and ``device_agent.storage.disk.Disk``. ``before`` is called with each change that is about
    to happen (its name and path), and may raise. ``capacity`` bounds the bytes of all files."""

    def __init__(self, root: Folder | None = None, capacity: int = 1 << 40) -> None:
        self.root = root if root is not None else Folder()
        self.capacity = capacity
        self.before: Callable[[str, Path], None] = healthy
        self._handles: dict[int, tuple[File, Path]] = {}
        self._next = 3

    # --- what the agent asks ------------------------------------------------------------------------------------------

    def open(self, path: Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        del mode
        folder = self._folder(path.parent)
        found = folder.live.get(path.name)
        if isinstance(found, Folder):
            raise _error(errno.EISDIR, path)
        if found is None:
            if not flags & os.O_CREAT:
                raise _error(errno.ENOENT, path)
            self.before("create", path)
            found = File()
            folder.put(path.name, found)
        elif flags & os.O_TRUNC and found.live:
            self.before("truncate", path)
            _change(found, Piece(0, None))
        self._next += 1
        self._handles[self._next] = found, path
        return self._next

    def read(self, handle: int, length: int, offset: int) -> bytes:
        return self._handles[handle][0].live[offset : offset + length]

    def write(self, handle: int, data: bytes, offset: int) -> int:
        file, path = self._handles[handle]
        self.before("write", path)
        room = self.capacity - self._used() + max(0, len(file.live) - offset)
        if room <= 0:
            raise _error(errno.ENOSPC, path)
        _change(file, Piece(offset, data[:room]))
        return min(room, len(data))

    def truncate(self, handle: int, length: int) -> None:
        file, path = self._handles[handle]
        if len(file.live) != length:
            self.before("truncate", path)
            _change(file, Piece(length, None))

    def length(self, handle: int) -> int:
        return len(self._handles[handle][0].live)

    def sync(self, handle: int) -> None:
        file, path = self._handles[handle]
        try:
            self.before("sync", path)
        except OSError:
            file.pending.clear()  # the system forgets that they were never written
            raise
        if file.pending:
            for piece in file.pending:
                file.durable = piece.applied(file.durable)
            file.pending.clear()

    def close(self, handle: int) -> None:
        del self._handles[handle]

    def size(self, path: Path) -> int | None:
        try:
            found = self._folder(path.parent).live.get(path.name)
        except OSError:
            return None
        return len(found.live) if isinstance(found, File) else None

    def names(self, folder: Path) -> list[str]:
        return list(self._folder(folder).live)

    def rename(self, old: Path, new: Path) -> None:
        source, target = self._folder(old.parent), self._folder(new.parent)
        if old.name not in source.live:
            raise _error(errno.ENOENT, old)
        if old == new:
            return
        self.before("rename", new)
        what = source.live[old.name]
        target.put(new.name, what)
        source.put(old.name, None)

    def unlink(self, path: Path) -> None:
        folder = self._folder(path.parent)
        if not isinstance(folder.live.get(path.name), File):
            raise _error(errno.ENOENT, path)
        self.before("unlink", path)
        folder.put(path.name, None)

    def mkdir(self, path: Path, mode: int = 0o700) -> None:
        del mode
        folder = self._folder(path.parent)
        if path.name in folder.live:
            raise _error(errno.EEXIST, path)
        self.before("mkdir", path)
        folder.put(path.name, Folder())

    def sync_folder(self, folder: Path) -> None:
        found = self._folder(folder)
        self.before("sync_folder", folder)
        found.durable = dict(found.live)
        found.pending.clear()

    def free(self, folder: Path) -> int:
        del folder
        return max(0, self.capacity - self._used())

    # --- what a harness asks ------------------------------------------------------------------------------------------

    def put(self, path: Path, content: bytes) -> None:
        """A file that was always there."""
        folder = self.root
        for part in path.parent.parts[1:]:
            below = folder.live.setdefault(part, Folder())
            assert isinstance(below, Folder)
            folder.durable[part] = below
            folder = below
        folder.live[path.name] = folder.durable[path.name] = File(content, content)

    def content(self, path: Path) -> bytes | None:
        """What a reader sees; None where there is no such file."""
        try:
            found = self._folder(path.parent).live.get(path.name)
        except OSError:
            return None
        return found.live if isinstance(found, File) else None

    def frozen(self) -> "ModelDisk":
        """A copy as it stands, pending changes included."""
        return ModelDisk(_copy(self.root, {}), self.capacity)

    def after_cut(self, chance: "Chance") -> "ModelDisk":
        """A disk on which everything is durable: one that a cut at this moment may leave."""
        return ModelDisk(_survivor(self.root, chance, {}), self.capacity)

    def _folder(self, path: Path) -> Folder:
        folder = self.root
        for part in path.parts[1:]:
            below = folder.live.get(part)
            if not isinstance(below, Folder):
                raise _error(errno.ENOENT if below is None else errno.ENOTDIR, path)
            folder = below
        return folder

    def _used(self) -> int:
        return sum(len(file.live) for file in _files(self.root))


class Chance:
    """How a cut treats what is pending: "none" or "all" of it survives, or "some" as ``rng`` draws."""

    def __init__(self, kind: str, rng: random.Random) -> None:
        self._kind = kind
        self._rng = rng

    def names(self, pending: list[Named]) -> list[Named]:
        if self._kind == "some":
            return [change for change in pending if self._rng.random() < 0.5]
        return pending if self._kind in ("all", "names") else []

    def content(self, file: File) -> bytes:
        if self._kind == "all" or not file.pending:
            pieces = file.pending
        elif self._kind == "some":
            return self._torn(file)
        else:
            pieces = []
        content = file.durable
        for piece in pieces:
            content = piece.applied(content)
        return content

    def _torn(self, file: File) -> bytes:
        kind = self._rng.choice(("none", "prefix", "blocks", "blocks", "all"))
        if kind == "none":
            return file.durable
        if kind == "blocks":
            return self._holes(file)
        left = sum(len(piece.data or b"") for piece in file.pending)
        left = left if kind == "all" else self._rng.randint(0, left)
        content = file.durable
        for piece in file.pending:
            data = piece.data
            content = (piece if data is None else Piece(piece.offset, data[:left])).applied(content)
            if data is not None and len(data) > left:
                break
            left -= len(data or b"")
        return content

    def _holes(self, file: File) -> bytes:
        """The length is right, and some blocks are what lay on the disk before, or zeros."""
        content = file.durable
        for piece in file.pending:
            content = piece.applied(content)
        holes = bytearray(content)
        for start in range(0, len(content), BLOCK):
            if self._rng.random() < 0.5 and any(_touches(piece, start) for piece in file.pending):
                end = min(start + BLOCK, len(content))
                zeros = self._rng.random() < 0.5
                holes[start:end] = bytes(end - start) if zeros else self._rng.randbytes(end - start)
        return bytes(holes)


def _touches(piece: Piece, start: int) -> bool:
    return piece.data is not None and piece.offset < start + BLOCK and start < piece.offset + len(piece.data)


def _change(file: File, piece: Piece) -> None:
    file.pending.append(piece)
    file.live = piece.applied(file.live)


def _files(folder: Folder) -> list[File]:
    found: list[File] = []
    for what in folder.live.values():
        found += _files(what) if isinstance(what, Folder) else [what]
    return found


def _copy(what: Folder, known: dict[int, File | Folder]) -> Folder:
    copy = Folder()
    known[id(what)] = copy

    def same(one: File | Folder) -> File | Folder:
        if id(one) not in known:
            if isinstance(one, Folder):
                return _copy(one, known)
            known[id(one)] = File(one.live, one.durable, list(one.pending))
        return known[id(one)]

    copy.live = {name: same(one) for name, one in what.live.items()}
    copy.durable = {name: same(one) for name, one in what.durable.items()}
    copy.pending = [Named(c.name, None if c.what is None else same(c.what)) for c in what.pending]
    return copy


def _survivor(what: Folder, chance: Chance, known: dict[int, File]) -> Folder:
    entries = dict(what.durable)
    for change in chance.names(what.pending):
        if change.what is None:
            entries.pop(change.name, None)
        else:
            entries[change.name] = change.what
    left = Folder()
    for name, one in sorted(entries.items()):
        if isinstance(one, Folder):
            left.live[name] = _survivor(one, chance, known)
            continue
        if id(one) not in known:
            content = chance.content(one)
            known[id(one)] = File(content, content)
        left.live[name] = known[id(one)]
    left.durable = dict(left.live)
    return left


def picture(disk: ModelDisk) -> int:
    """A number that tells disks with other files apart."""
    found: list[tuple[str, bytes | None]] = []

    def look(folder: Folder, path: str) -> None:
        for name, what in sorted(folder.live.items()):
            if isinstance(what, Folder):
                found.append((f"{path}/{name}", None))
                look(what, f"{path}/{name}")
            else:
                found.append((f"{path}/{name}", what.live))

    look(disk.root, "")
    return hash(tuple(found))


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
