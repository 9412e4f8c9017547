"""A frame's panel: a pipe that raw frames go to."""

import os
import threading
from pathlib import Path

FRAME_BYTES = 1920 * 1080 * 3 // 2


class Display:
    """Reads frames from a pipe, and stops after some: so a film is in its middle for as long as a test likes."""

    def __init__(self, path: Path, frames: int = 1_000_000) -> None:
        self.path = path
        os.mkfifo(self.path)
        self.shown = threading.Event()
        self._frames = frames
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._thread.join(10)
        self.path.unlink()

    def _read(self) -> None:
        with self.path.open("rb") as pipe:
            for _ in range(self._frames):
                if not pipe.read(FRAME_BYTES):
                    return
            self.shown.set()
            self._done.wait(20)


def children(pid: int) -> list[int]:
    """Process ids of a process's children."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(number) for path in tasks for number in path.read_text().split()]
