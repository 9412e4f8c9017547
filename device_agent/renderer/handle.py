"""The agent's handle on rendering: a renderer is started when first needed, ended when nothing comes for a while."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from device_agent.renderer.messages import Measure, Measured, Play, Played, Refused
from device_agent.renderer.process import RendererDied, RendererProcess, RendererRefused, renderer_command

_CLOSED = "The agent stops: no film is begun any more."


@dataclass(frozen=True, slots=True, kw_only=True)
class RendererOptions:
    """How renderers run. Seconds; MB are 10^6 bytes of private memory (``limits.take_at_most``)."""

    runtime: str = "auto"
    core_mask: int = 0
    beat_s: float = 15.0
    """A renderer that says nothing for this long hangs."""
    timeout_s: float = 300.0
    """No film and no trial takes longer."""
    idle_s: float = 120.0
    """How long it stays warm after its last film."""
    memory_mb: int = 800


class Renderer:
    """One renderer at a time: a warm one for films, a fresh one for each trial. Any thread may call any method."""

    def __init__(self, options: RendererOptions | None = None, command: Sequence[str] | None = None) -> None:
        """``command`` stands in for the real renderer's command line."""
        self._options = options or RendererOptions()
        options = self._options
        self._command = command or renderer_command(options.runtime, options.core_mask, options.memory_mb)
        # Renderers die with the thread that started them, and pages' threads are short-lived.
        self._births = ThreadPoolExecutor(1, thread_name_prefix="renderer's parent")
        self._one = threading.Lock()
        self._lock = threading.Lock()
        self._living: set[RendererProcess] = set()
        self._warm: RendererProcess | None = None
        self._timer: threading.Timer | None = None
        self._closed = False

    def play(self, play: Play, on_fault: Callable[[str], None] = lambda sentence: None) -> Played:
        """One film; another thread's waits. Raises RendererDied, RendererRefused, or Unreadable for odd names."""
        with self._one:
            process, fresh = self._take()
            try:
                played = self._ask(process, play, on_fault)
            except RendererDied as died:
                if fresh or died.heard or died.kind != "crash":
                    raise
                # It died while it was idle, of something that is not this film's fault.
                self._end(process)
                process = self._start()
                played = self._ask(process, play, on_fault)
            finally:
                self._keep(process)
        assert isinstance(played, Played)  # noqa: S101  for the type checker
        return played

    def measure(
        self,
        measure: Measure,
        on_fault: Callable[[str], None] = lambda sentence: None,
        environment: Mapping[str, str] | None = None,
    ) -> Measured:
        """One trial in a renderer of its own, so that its memory is the release's; ``environment`` is one in which
        another agent's code is found, for a release that brings it. Raises as ``play`` does.

        The warm renderer ends before: a frame has room for one model at a time.
        """
        with self._one:
            self._cool()
            process = self._start(environment)
            try:
                measured = self._ask(process, measure, on_fault)
            finally:
                self._end(process)
        assert isinstance(measured, Measured)  # noqa: S101  for the type checker
        return measured

    @property
    def warm(self) -> int | None:
        """Process id of the renderer that is kept after its first film, playing again or not; None without one."""
        with self._lock:
            return self._warm.pid if self._warm is not None and self._warm.alive else None

    def close(self) -> None:
        """End every renderer; what is under way raises RendererDied of kind "closed"."""
        with self._lock:
            self._closed = True
            living, self._warm = list(self._living), None
            self._stop_timer()
        for process in living:
            process.close(kill=True)
        self._births.shutdown()

    def _ask(
        self, process: RendererProcess, request: Play | Measure, on_fault: Callable[[str], None]
    ) -> Played | Measured:
        return process.ask(request, beat_s=self._options.beat_s, timeout_s=self._options.timeout_s, on_fault=on_fault)

    def _take(self) -> tuple[RendererProcess, bool]:
        """The warm renderer, or a new one (True)."""
        with self._lock:
            process = self._warm
            if process is not None and process.alive:
                self._stop_timer()
                return process, False
        self._cool()
        return self._start(), True

    def _cool(self) -> None:
        """End the warm renderer."""
        with self._lock:
            self._stop_timer()
            process = self._warm
        if process is not None:
            self._end(process)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, environment: Mapping[str, str] | None = None) -> RendererProcess:
        self._require_open()
        try:
            process = self._births.submit(RendererProcess, self._command, environment or os.environ).result()
        except RuntimeError:  # closed in this moment
            raise RendererDied(_CLOSED, "closed") from None
        except OSError as error:
            reason = error.strerror or error
            refused = Refused(detail=f"No renderer could be started ({reason}): free memory.", blame="frame")
            raise RendererRefused(refused) from error
        with self._lock:
            self._living.add(process)
        try:
            self._require_open()
        except RendererDied:
            self._end(process)
            raise
        return process

    def _require_open(self) -> None:
        with self._lock:
            if self._closed:
                raise RendererDied(_CLOSED, "closed")

    def _keep(self, process: RendererProcess) -> None:
        """Let it stay for the next film, for a while."""
        idle_s = self._options.idle_s
        if not process.alive or idle_s <= 0:
            self._end(process)
            return
        with self._lock:
            if self._closed:
                return
            self._warm = process
            self._timer = timer = threading.Timer(idle_s, self._retire, (process,))
            timer.daemon = True
            timer.start()

    def _retire(self, process: RendererProcess) -> None:
        """Nothing came: an idle agent holds no renderer."""
        if not self._one.acquire(blocking=False):
            return  # a film has come after all
        try:
            self._end(process)
        finally:
            self._one.release()

    def _end(self, process: RendererProcess) -> None:
        with self._lock:
            self._living.discard(process)
            if self._warm is process:
                self._warm = None
        process.close()
