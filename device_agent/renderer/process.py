"""One renderer process, seen from the agent: asked for one piece of work at a time, listened to, and ended."""

import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Literal

from device_agent.environment import command
from device_agent.renderer.limits import ENVIRONMENT
from device_agent.renderer.messages import (
    MAX_LINE,
    Beat,
    Broke,
    Fault,
    Measured,
    Play,
    Played,
    Refused,
    Request,
    Unreadable,
    line,
    read_answer,
)

log = logging.getLogger(__name__)

MAX_LOGGED = 200
"""Lines of one renderer's stderr that reach the agent's log."""
MAX_LOGGED_LINE = 1_000
END_S = 2.0
"""What a renderer gets to end by itself once its standard input is closed."""
KILL_S = 5.0
"""What the kernel gets to end one that was killed; a process that waits for a driver may never end."""

Kind = Literal["crash", "hang", "memory", "closed"]


class RendererDied(Exception):
    """The renderer is gone and the work with it; the message is one sentence.

    ``kind``: "crash", "hang" (killed because it fell silent or took too long), "memory", "closed" (the agent ended it:
    nobody's fault). ``frames`` were drawn by then. ``heard`` is false when it had not even begun.
    """

    def __init__(self, sentence: str, kind: Kind, frames: int = 0, *, heard: bool = True) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.frames = frames
        self.heard = heard


class RendererRefused(Exception):
    """The renderer is well and did not do the work; the message is one sentence, ``blame`` as in ``Refused``."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.detail)
        self.blame = refused.blame


class RendererProcess:
    """Starts a renderer. Must be called on a thread that lives as long as the agent: see ``limits.die_with``."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] = os.environ) -> None:
        self._answers, answers = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*command, "--answers", str(answers), "--parent", str(os.getpid())],
                stdin=subprocess.PIPE,
                # Libraries print what they like; answers have a pipe of their own.
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(answers,),
                env={**environment, **ENVIRONMENT},
            )
        except BaseException:
            os.close(self._answers)
            raise
        finally:
            os.close(answers)
        self._buffer = bytearray()
        self._closed = False
        self._said: deque[str] = deque(maxlen=5)
        self._listener = threading.Thread(
            target=self._log, args=(self._process.stdout,), name="renderer's log", daemon=True
        )
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._closed and self._process.poll() is None

    def ask(
        self,
        request: Request,
        *,
        beat_s: float,
        timeout_s: float,
        on_fault: Callable[[str], None] = lambda sentence: None,
    ) -> Played | Measured:
        """Do one piece of work. Raises RendererDied (the process is gone then), RendererRefused or Unreadable (for a
        request that no line can hold).

        It is killed after ``beat_s`` without a line from it, and after ``timeout_s`` in any case.
        """
        data = line(request)
        what = "film" if isinstance(request, Play) else "trial"
        started = heard_at = time.monotonic()
        frames, heard = 0, False
        try:
            if self._read_line(0.0) is not None:
                raise Unreadable("an answer before the question")
            self._send(data)
            while True:
                now = time.monotonic()
                if now >= started + timeout_s:
                    raise self._end("hang", f"The {what} was not ready after {timeout_s:g} s and was given up.", frames)
                if now >= heard_at + beat_s:
                    sentence = f"The renderer hung: the {what} stood still for {beat_s:g} s and was given up."
                    raise self._end("hang", sentence, frames)
                said = self._read_line(min(heard_at + beat_s, started + timeout_s) - now)
                if said is None:
                    continue
                heard_at, heard = time.monotonic(), True
                match read_answer(said):
                    case Beat(frames=drawn):
                        frames = drawn
                    case Fault(detail=detail):
                        on_fault(detail)
                    case Refused() as refused:
                        raise RendererRefused(refused)
                    case Broke(detail=detail, out_of_memory=out_of_memory):
                        raise self._end("memory" if out_of_memory else "crash", detail, frames)
                    case Played() as played if isinstance(request, Play):
                        return played
                    case Measured() as measured if not isinstance(request, Play):
                        return measured
                    case _:
                        raise Unreadable("an answer to another question")
        except Unreadable as error:
            sentence = f"The renderer said something that cannot be understood ({error}), and the {what} was given up."
            raise self._end("crash", sentence, frames) from error
        except (EOFError, OSError):
            raise self._dead(what, frames, heard=heard) from None
        except (RendererDied, RendererRefused):
            raise
        except BaseException:
            self.close(kill=True)  # nobody listens to its answer any more
            raise

    def close(self, *, kill: bool = False) -> None:
        """End it, in order or by force; work under way raises RendererDied. From any thread, more than once."""
        self._closed = True
        if kill:
            self._process.kill()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                self._process.wait(KILL_S)
            except subprocess.TimeoutExpired:
                log.error("The renderer %s does not even end when it is killed: it is left behind.", self.pid)
        self._listener.join(END_S)

    def __del__(self) -> None:
        # Not in close(): another thread may be reading, and the number may be another file's by then.
        with suppress(OSError):
            os.close(self._answers)

    def _send(self, data: bytes) -> None:
        """Raises OSError when it can hear nothing any more."""
        stdin = self._process.stdin
        if stdin is None or stdin.closed:
            raise BrokenPipeError
        stdin.write(data)
        stdin.flush()

    def _read_line(self, wait_s: float) -> bytes | None:
        """The next line without its newline, None when there is none yet. Raises EOFError or Unreadable."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) >= MAX_LINE:
                raise Unreadable("a line without an end")
            poll = select.poll()
            poll.register(self._answers, select.POLLIN)
            if not poll.poll(max(0.0, wait_s) * 1000):
                return None
            data = os.read(self._answers, MAX_LINE)
            if not data:
                raise EOFError
            self._buffer += data
        said = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return said

    def _end(self, kind: Kind, sentence: str, frames: int) -> RendererDied:
        self.close(kill=True)
        log.error("%s", sentence)
        return RendererDied(sentence, kind, frames)

    def _dead(self, what: str, frames: int, *, heard: bool) -> RendererDied:
        """Its pipe is closed: find out how it ended."""
        if self._closed:
            self.close(kill=True)
            return RendererDied(f"The {what} was ended because the agent stops.", "closed", frames, heard=heard)
        self.close()
        status = self._process.returncode or 0
        how = _signal_name(-status) if status < 0 else f"status {status}"
        log.error("The renderer ended with %s. Its last words: %s", how, " | ".join(self._said) or "none")
        return RendererDied(
            f"The renderer ended with {how} in mid-{what}; the next {what} gets a new one.",
            "crash",
            frames,
            heard=heard,
        )

    def _log(self, stream: IO[bytes]) -> None:
        """Its words, into the agent's log; read to the end, so that it never blocks on them."""
        lines = 0
        with stream:
            while data := stream.readline(MAX_LOGGED_LINE):
                text = data.decode("utf-8", "replace").rstrip()
                if not text:
                    continue
                self._said.append(text)
                lines += 1
                if lines <= MAX_LOGGED:
                    log.info("renderer: %s", text)
                elif lines == MAX_LOGGED + 1:
                    log.warning("The renderer says more than %s lines: the rest is left out.", MAX_LOGGED)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def renderer_command(runtime: str, core_mask: int, memory_mb: int) -> list[str]:
    """How a renderer is started; ``RendererProcess`` adds what concerns the two processes alone."""
    options = ["--runtime", runtime, "--core-mask", str(core_mask), "--memory-mb", str(memory_mb)]
    # Not from the working directory: a renderer runs the same code as its agent, which may have come with a release.
    return command(["render", *options])
