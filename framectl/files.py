"""Small files: read with a bound, written once, replaced atomically."""

import os
import tempfile
from pathlib import Path

from framectl.errors import CommandFailed
from protocol.limits import MAX_MESSAGE


def read_file(path: Path, limit: int = MAX_MESSAGE) -> bytes:
    """A small file, never more than ``limit`` bytes. Raises CommandFailed."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(data) > limit:
        raise CommandFailed(f"{path} has more than the {limit} bytes allowed here.")
    return data


def write_new(path: Path, data: bytes, what: str) -> None:
    """Write a file that is not there yet; ``what`` it is called. Raises CommandFailed."""
    try:
        with path.open("xb") as file:
            try:
                file.write(data)
                file.flush()
            except OSError:
                path.unlink(missing_ok=True)
                raise
    except FileExistsError:
        raise CommandFailed(f"{path} exists already: choose another name for {what}.") from None
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror or error}.") from None


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file atomically and durably. Raises CommandFailed."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror or error}.") from None
