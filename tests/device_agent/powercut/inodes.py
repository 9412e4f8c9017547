"""Files and folders of the disk in memory: what a reader sees, what is durable, and what is pending in between."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Piece:
    """A pending change of a file: bytes at an offset, or (None) its new length."""

    offset: int
    data: bytes | None

    def applied(self, content: bytes) -> bytes:
        before = content[: self.offset].ljust(self.offset, b"\0")
        return before if self.data is None else before + self.data + content[self.offset + len(self.data) :]


@dataclass(slots=True, eq=False)
class File:
    """``live`` is what a reader sees; ``durable`` with any of ``pending`` what a cut may leave."""

    live: bytes = b""
    durable: bytes = b""
    pending: list[Piece] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Named:
    """A pending change of a folder: ``name`` is now this file or folder, or (None) nothing."""

    name: str
    what: "File | Folder | None"


@dataclass(slots=True, eq=False)
class Folder:
    """The same for names."""

    live: dict[str, "File | Folder"] = field(default_factory=dict)
    durable: dict[str, "File | Folder"] = field(default_factory=dict)
    pending: list[Named] = field(default_factory=list)

    def put(self, name: str, what: "File | Folder | None") -> None:
        self.pending.append(Named(name, what))
        if what is None:
            del self.live[name]
        else:
            self.live[name] = what
