"""The security epoch: a number that only rises, below which no release is installed any more.

A director may send a frame back to an older release at any time (that is a rollback), so versions cannot tell a release
that is merely older from one that is known to be dangerous. Its signed security epoch does. A frame that committed a
release raises its floor to that release's epoch, and keeps it where software cannot lower it, if the board has such a
place: RPMB or a trusted execution environment, behind a helper of the vendor (``CommandEpoch``); else in a file.
"""

import os
import re
import signal
import subprocess
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from device_agent.environment import environment_for
from device_agent.storage.files import read_file, replace_file
from protocol.errors import Reason, Refused

MAX_EPOCH = 2**31
TIMEOUT_S = 5.0
MAX_ANSWER = 64
"""Bytes that a helper may say."""
_NUMBER = re.compile(rb"\s*(\d{1,10})\s*")
_FILE = re.compile(rb"(\d{1,10}) ([0-9a-f]{8})\n")


class EpochUnknown(Refused):
    """What is kept cannot be read or raised; ``detail`` says why. Installations wait until it can be."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.INTERNAL, detail)


class EpochStore(Protocol):
    """Where the floor is kept. Both may take seconds and raise EpochUnknown or OSError."""

    def floor(self) -> int:
        """Releases of a smaller epoch are refused; 0 on a new frame."""

    def raise_to(self, epoch: int) -> None:
        """The floor is at least ``epoch`` from now on, durably; it never goes down. What was damaged is mended."""


class MemoryEpoch:
    """A floor as long as the process lives."""

    def __init__(self, epoch: int = 0) -> None:
        self._epoch = epoch

    def floor(self) -> int:
        return self._epoch

    def raise_to(self, epoch: int) -> None:
        self._epoch = max(self._epoch, epoch)


class FileEpoch:
    """A file with the number and its CRC-32, so that a damaged one is not taken for a lower floor."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: int | None = None

    def floor(self) -> int:
        if self._known is None:
            self._known = self._read()
        return self._known

    def raise_to(self, epoch: int) -> None:
        try:
            if self.floor() >= epoch:
                return  # flash wears out
        except EpochUnknown:
            pass
        number = b"%d" % epoch
        replace_file(self._path, b"%s %08x\n" % (number, zlib.crc32(number)))
        self._known = epoch

    def _read(self) -> int:
        try:
            content = read_file(self._path, MAX_ANSWER)
        except FileNotFoundError:
            return 0
        match = _FILE.fullmatch(content)
        if match is None or int(match[2], 16) != zlib.crc32(match[1]):
            raise EpochUnknown(
                f"{self._path.name} is damaged: the frame's floor is now the epoch of the release it committed last."
            )
        return int(match[1])


class CommandEpoch:
    """A vendor's helper: ``argv get`` prints the floor, ``argv raise N`` raises it; both end with status 0."""

    def __init__(self, argv: Sequence[str], timeout_s: float = TIMEOUT_S) -> None:
        self._argv = tuple(argv)
        self._timeout_s = timeout_s

    def floor(self) -> int:
        said = self._run("get")
        match = _NUMBER.fullmatch(said)
        if match is None or int(match[1]) > MAX_EPOCH:
            raise self._unknown(f"printed {said[:32]!r} instead of a number")
        return int(match[1])

    def raise_to(self, epoch: int) -> None:
        if self.floor() >= epoch:
            return
        self._run("raise", str(epoch))
        if (floor := self.floor()) < epoch:
            raise self._unknown(f"still says {floor} after it was told to raise it to {epoch}")

    def _run(self, *arguments: str) -> bytes:
        try:
            process = subprocess.Popen(
                [*self._argv, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # whatever it starts ends with it
                env=environment_for(None, os.environ),  # the vendor's program has a Python path of its own
            )
        except (OSError, ValueError) as error:
            raise self._unknown(f"cannot be started ({error})") from error
        timer = threading.Timer(self._timeout_s, _end, [process])
        timer.start()
        try:
            with process:
                assert process.stdout is not None  # noqa: S101  it is a pipe
                said = process.stdout.read(MAX_ANSWER + 1)
                if len(said) > MAX_ANSWER:
                    _end(process)
        finally:
            late = not timer.is_alive()
            timer.cancel()
        if late:
            raise self._unknown(f"did not end within {self._timeout_s:g} s")
        if process.returncode != 0:
            raise self._unknown(f"ended with status {process.returncode}")
        return said

    def _unknown(self, what: str) -> EpochUnknown:
        name = Path(self._argv[0]).name
        return EpochUnknown(f"The helper for the security epoch, {name}, {what}: look at the board.")


def epoch_store(helper: Path | None, path: Path) -> EpochStore:
    """The board's own place where it has one, else a file."""
    return FileEpoch(path) if helper is None else CommandEpoch([str(helper)])


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
