"""Celery's messages through a folder, as kombu does it, but so that nobody ever reads half a message.

kombu writes a message under its final name and moves it to the machine's temporary folder to read it: a worker that
comes in between finds an empty file and ends. Here a message appears whole, by a rename, and is claimed the same way.
"""

import logging
import os
import uuid
from pathlib import Path
from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps, loads

log = logging.getLogger(__name__)


class Channel(filesystem.Channel):
    """Names that begin with a dot are not messages yet, or not any more."""

    def _put(self, queue: str, payload: dict[str, Any], **_options: Any) -> None:  # type: ignore[override]  # its two parents disagree
        folder = Path(self.data_folder_out)
        name = f"{round(monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        fresh = folder / f".new-{name}"
        try:
            fresh.write_text(dumps(payload))  # type: ignore[no-untyped-call]
            fresh.rename(folder / name)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        folder = Path(self.data_folder_in)
        for name in sorted(os.listdir(folder)):
            if name.startswith(".") or name.partition(".")[2] != f"{queue}.msg":
                continue
            claimed = folder / f".read-{name}"
            try:
                (folder / name).rename(claimed)
            except FileNotFoundError:  # another worker was faster
                continue
            try:
                return loads(claimed.read_text())  # type: ignore[no-untyped-call]
            except ValueError:
                log.warning("A message in %s cannot be read and is dropped: %s", folder, name)
            finally:
                claimed.unlink(missing_ok=True)
        raise Empty


class Transport(filesystem.Transport):
    """``filesystem://``"""

    Channel = Channel


def install() -> None:
    """From now on ``filesystem://`` means this module."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:{Transport.__name__}"
