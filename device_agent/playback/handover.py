"""Drawing and showing at the same time: frames go from the thread that draws to one that feeds the sink.

There are exactly three frames: one being drawn, one being written and one between them. Who is faster waits.
"""

import queue
import threading
import time
from typing import Final

from device_agent.pipeline.render import Canvas
from device_agent.playback.sinks import FrameSink
from device_agent.playback.video import Samples

BUFFERS: Final = 3


class Canvases:
    """The three frame buffers of a process (3.1 MB each), used by one film after the other."""

    def __init__(self) -> None:
        self.all = tuple(Canvas() for _ in range(BUFFERS))

    def forget(self) -> None:
        """Let go of the portrait they show."""
        for canvas in self.all:
            canvas.shows = None


class Handover:
    """One film's way to its sink. Call `blank`, draw, `show`, again and again; then `finish` or `abandon`."""

    def __init__(self, canvases: Canvases, sink: FrameSink, rate: int) -> None:
        """`rate`: the sound's, in Hz."""
        self._sink = sink
        self._rate = rate
        # Room for every frame and for what follows them, so that no `put` ever waits. None means that nothing follows;
        # a film whose `finish` failed is abandoned, and then says so twice.
        self._free: queue.Queue[Canvas | None] = queue.Queue(BUFFERS + 1)
        self._ready: queue.Queue[tuple[Canvas, Samples] | None] = queue.Queue(BUFFERS + 2)
        for canvas in canvases.all:
            self._free.put(canvas)
        self._failure: BaseException | None = None
        self._abandoned = False
        self.first_written: float | None = None
        """`time.perf_counter()` when the sink had taken the first frame."""
        self._thread = threading.Thread(target=self._run, name="frames", daemon=True)
        self._thread.start()

    def blank(self) -> Canvas:
        """A canvas that nobody uses; waits for one. Raises what the sink failed with."""
        canvas = self._free.get()
        if canvas is None:
            self._complain()
            raise RuntimeError("This film has ended.")
        return canvas

    def show(self, canvas: Canvas, sound: Samples) -> None:
        """Hand a drawn canvas on, with its sound."""
        self._ready.put((canvas, sound))

    def finish(self) -> None:
        """Wait until the sink has everything and has finished. Raises what it failed with."""
        self._ready.put(None)
        self._thread.join()
        self._complain()

    def abandon(self) -> None:
        """Give the film up; the sink discards it."""
        self._abandoned = True
        self._ready.put(None)
        self._thread.join()

    def _complain(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._sink.open(self._rate)
            while (item := self._ready.get()) is not None and not self._abandoned:
                canvas, sound = item
                self._sink.write(canvas.frame, sound)
                if self.first_written is None:
                    self.first_written = time.perf_counter()
                self._free.put(canvas)
            if self._abandoned:
                self._sink.discard()
            else:
                self._sink.finish()
        except BaseException as failure:  # for the thread that draws to raise
            self._failure = failure
            self._sink.discard()
        finally:
            self._free.put(None)
