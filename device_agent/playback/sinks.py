"""Where frames go: an H.264 file, raw frames for a display or a pipe, or nowhere.

A sink takes I420 frames (`pipeline.canvas`) in order, each with its 40 ms of sound. It is used by one thread at a time,
and is done with a frame when `write` returns.
"""

import errno
import os
import select
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from device_agent.pipeline.canvas import Frame
from device_agent.pipeline.framing import HEIGHT, WIDTH
from device_agent.playback.video import Samples, VideoError, VideoWriter, load_av

# How long a pipe may be without a reader before the playback is given up.
_READER_PATIENCE_S: Final = 5.0


class FrameSink(Protocol):
    """Takes one film. After `discard` instead of `finish` nothing is left behind."""

    def open(self, rate: int) -> None:
        """Before the first frame; `rate` is the sound's, in Hz. Raises VideoError."""
        ...

    def write(self, frame: Frame, sound: Samples) -> None:
        """One frame (1620, 1920) uint8 I420 and its sound, (rate / 25,) float32 mono in -1..1. Raises VideoError."""
        ...

    def finish(self) -> None:
        """The film is complete. Raises VideoError."""
        ...

    def discard(self) -> None:
        """Something went wrong: forget the film. Never raises; harmless when nothing was opened."""
        ...


class Mp4Sink:
    """H.264 and AAC in an MP4 file. Needs the extra `mp4`."""

    def __init__(self, path: Path | str) -> None:
        """Raises VideoError without PyAV."""
        load_av()
        self._path = path
        self._writer: VideoWriter | None = None

    def open(self, rate: int) -> None:
        self._writer = VideoWriter(self._path, WIDTH, HEIGHT, rate).__enter__()

    def write(self, frame: Frame, sound: Samples) -> None:
        if self._writer is None:
            raise VideoError("The film must be opened before its first frame.")
        self._writer.write(frame, sound)

    def finish(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(None, None, None)

    def discard(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(VideoError, VideoError("discarded"), None)


class RawSink:
    """I420 frames of 3,110,400 bytes one after the other, without sound: to a file, a named pipe or a device.

    A pipe sets the pace: a display that reads 25 frames a second gets 25 frames a second. One that takes no frame
    for some seconds has gone wrong, and the film is given up with a sentence that says so: otherwise the renderer would
    seem to hang, and the release be blamed.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._partial: Path | None = None
        self._file = -1

    def open(self, rate: int) -> None:
        try:
            if self._is_special():
                self._file = self._open_special()
            else:
                self._partial = self._path.with_name(self._path.name + ".partial")
                self._file = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._complaint(error) from error

    def write(self, frame: Frame, sound: Samples) -> None:
        rest = frame.data.cast("B")
        until = time.monotonic() + _READER_PATIENCE_S
        try:
            while rest:
                try:
                    rest = rest[os.write(self._file, rest) :]
                except BlockingIOError:
                    self._wait_for_reader(until)
        except OSError as error:
            raise self._complaint(error) from error

    def finish(self) -> None:
        try:
            self._close()
            if self._partial is not None:
                self._partial.replace(self._path)
                self._partial = None
        except OSError as error:
            raise self._complaint(error) from error

    def discard(self) -> None:
        with suppress(OSError):
            self._close()
        partial, self._partial = self._partial, None
        if partial is not None:
            with suppress(OSError):
                partial.unlink()

    def _close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _is_special(self) -> bool:
        try:
            mode = self._path.stat().st_mode
        except FileNotFoundError:
            return False
        return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)

    def _open_special(self) -> int:
        """A pipe that nobody reads must not hold up the process for ever; nor may a write to it later."""
        until = time.monotonic() + _READER_PATIENCE_S
        while True:
            try:
                return os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def _wait_for_reader(self, until: float) -> None:
        poll = select.poll()
        poll.register(self._file, select.POLLOUT)
        left = until - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise VideoError(
                f"The display has not read a frame from {self._path} for {_READER_PATIENCE_S:g} s: start it again."
            )

    def _complaint(self, error: OSError) -> VideoError:
        if error.errno in (errno.ENXIO, errno.EPIPE):
            return VideoError(f"Nobody reads the frames from {self._path}: start the display first.")
        return VideoError(f"The frames cannot be written to {self._path}: {error.strerror or error}.")


class NullSink:
    """Takes frames and forgets them: for measuring."""

    def open(self, rate: int) -> None:
        pass

    def write(self, frame: Frame, sound: Samples) -> None:
        pass

    def finish(self) -> None:
        pass

    def discard(self) -> None:
        pass
