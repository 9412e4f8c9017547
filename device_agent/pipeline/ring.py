"""The audio ring: a fixed buffer between whoever delivers sound and the 40 ms steps that use it.

A source (a file, standard input, a microphone) writes from its own thread, the pipeline reads steps. Nothing grows:
when the ring is full a file waits, and a live source, which cannot wait, overwrites the oldest samples; how many were
lost is counted, because a gap in the sound shows on the lips.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

RING_BYTES: Final = 6 * 2**20
STEP_SAMPLES: Final = 640


class RingClosed(RuntimeError):
    """Nobody reads this ring any more: the source can stop."""


class AudioRing:
    """Up to `capacity` (default 1,572,864: 98 s) mono float32 samples at 16 kHz. One writer, one reader, any threads.

    `live`: a full ring drops its oldest samples instead of letting the source wait.
    """

    def __init__(self, *, live: bool, capacity: int = RING_BYTES // 4) -> None:
        if capacity < 1:
            raise ValueError("An audio ring holds at least one sample.")
        self._buffer = np.zeros(capacity, np.float32)
        self._live = live
        self._start = 0
        self._held = 0
        self._dropped = 0
        self._finished = False
        self._closed = False
        self._failure: Exception | None = None
        self._changed = threading.Condition()

    @property
    def capacity(self) -> int:
        return len(self._buffer)

    @property
    def dropped(self) -> int:
        """How many samples a live source lost so far because nobody read them in time."""
        with self._changed:
            return self._dropped

    def __len__(self) -> int:
        """How many samples wait to be read."""
        with self._changed:
            return self._held

    def write(self, samples: Samples) -> None:
        """Append (n,) samples. Where the ring is full, a file's source waits here. Raises RingClosed."""
        rest = np.asarray(samples, dtype=np.float32).reshape(-1)
        with self._changed:
            if self._finished:
                raise ValueError("This ring was finished: start a new one for a new sound.")
            if self._live:
                self._make_room(len(rest))
                rest = rest[max(0, len(rest) - self.capacity) :]
            while len(rest):
                self._changed.wait_for(lambda: self._closed or self._held < self.capacity)
                if self._closed:
                    break
                count = min(len(rest), self.capacity - self._held)
                self._put(rest[:count])
                rest = rest[count:]
                self._changed.notify_all()
            if self._closed:
                raise RingClosed("The playback that read this sound has ended.")

    def finish(self, failure: Exception | None = None) -> None:
        """No more samples will come. `failure` is raised in the reader once it has read what came before."""
        with self._changed:
            self._finished = True
            self._failure = self._failure or failure
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will be read: a waiting source gets RingClosed."""
        with self._changed:
            self._closed = True
            self._held = 0
            self._changed.notify_all()

    def read(self, count: int, timeout: float | None = None) -> Samples:
        """The next `count` samples; fewer only at the end of the sound, none when it is over or the ring is closed.

        Waits up to `timeout` seconds (None: as long as it takes), then raises TimeoutError and takes nothing. Raises
        what the source failed with once everything before it is read.
        """
        if not 0 < count <= self.capacity:
            raise ValueError(f"Between 1 and {self.capacity} samples can be read at once.")
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._held < count and not self._finished and not self._closed:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError("The source delivers no sound.")
                self._changed.wait(left)
            if self._held == 0 and self._failure is not None:
                raise self._failure
            taken = self._take(min(count, self._held))
            self._changed.notify_all()
            return taken

    def steps(self, timeout: float | None = None) -> Iterator[Samples]:
        """The sound in steps of (640,) samples; the last one is filled up with silence. Raises as `read` does."""
        while len(step := self.read(STEP_SAMPLES, timeout)):
            yield step if len(step) == STEP_SAMPLES else np.pad(step, (0, STEP_SAMPLES - len(step)))

    def _make_room(self, wanted: int) -> None:
        """Forget the oldest samples, those of a delivery larger than the whole ring included."""
        excess = self._held + wanted - self.capacity
        if excess > 0:
            forgotten = min(excess, self._held)
            self._start = (self._start + forgotten) % self.capacity
            self._held -= forgotten
            self._dropped += excess

    def _put(self, samples: Samples) -> None:
        end = (self._start + self._held) % self.capacity
        first = min(len(samples), self.capacity - end)
        self._buffer[end : end + first] = samples[:first]
        self._buffer[: len(samples) - first] = samples[first:]
        self._held += len(samples)

    def _take(self, count: int) -> Samples:
        first = min(count, self.capacity - self._start)
        taken = np.concatenate([self._buffer[self._start : self._start + first], self._buffer[: count - first]])
        self._start = (self._start + count) % self.capacity
        self._held -= count
        return taken


def pour(source: Iterable[Samples], ring: AudioRing) -> threading.Thread:
    """Start a thread that writes what `source` delivers into the ring and finishes it, passing on a failure.

    The thread ends when the source does or the ring is closed; a source that blocks for ever is the process's to end.
    """

    def run() -> None:
        try:
            for samples in source:
                ring.write(samples)
        except RingClosed:
            return
        except Exception as failure:  # the reader is the one who can tell somebody
            ring.finish(failure)
        else:
            ring.finish()

    thread = threading.Thread(target=run, name="audio-source", daemon=True)
    thread.start()
    return thread
