"""Files that are whole or not there: atomic and durable replacement."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write ``content`` under ``path``, all or nothing, on disk when this returns. One writer per path."""
    temporary = path.with_name(f".{path.name}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
