"""The renderer itself: reads requests from standard input, does one at a time, and answers on a pipe of its own."""

import errno
import os
import sys
import time
import traceback
from pathlib import Path

import cv2

from device_agent.adapters import AdapterError, WrongBaseModel
from device_agent.bundle import Bundle, BundleError
from device_agent.pipeline.context import runtime_context
from device_agent.pipeline.face import NoFace
from device_agent.pipeline.photo import PhotoError
from device_agent.pipeline.voice import VoiceError, decode_voice
from device_agent.playback.engine import Engine, peak_rss_mb
from device_agent.playback.sinks import FrameSink, Mp4Sink, NullSink, RawSink
from device_agent.playback.video import VideoError
from device_agent.power import HWMON, PowerMeter
from device_agent.renderer.limits import private_mb
from device_agent.renderer.messages import (
    MAX_LINE,
    Answer,
    Beat,
    Broke,
    Fault,
    Measure,
    Measured,
    Play,
    Played,
    Refused,
    Request,
    Unreadable,
    line,
    read_request,
)
from device_agent.runtime import RuntimeFailure
from device_agent.runtime.choice import RuntimeChoice, runtimes
from device_agent.telemetry import sentence
from device_agent.trial.run import FilmFigures, run_trial
from protocol import errors

BEAT_S = 0.25
"""Beats go out no more often."""

_NO_MEMORY = ("bad_alloc", "Insufficient memory", "Failed to allocate memory")
"""How ONNX Runtime and OpenCV say that an allocation failed."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def serve(answers: int, runtime: RuntimeChoice, core_mask: int) -> int:
    """Answer until standard input ends (0) or a request has broken this process (1); ``answers`` is an open file."""
    worker = Worker(answers, runtime, core_mask)
    try:
        while data := sys.stdin.buffer.readline(MAX_LINE):
            if not worker.answer(data):
                return 1
    finally:
        worker.close()
    return 0


class Worker:
    """One request after another; warm in between."""

    def __init__(self, answers: int, runtime: RuntimeChoice, core_mask: int, hwmon: Path = HWMON) -> None:
        self._answers = answers
        self._hwmon = hwmon
        self._engine = Engine(runtime, core_mask, self._fault)
        self._runtimes = runtimes(runtime, core_mask, self._fault)
        self._beat_at = 0.0

    def answer(self, data: bytes) -> bool:
        """Do what one line asks; whether another may come."""
        try:
            request = read_request(data)
        except Unreadable as error:
            self._say(Broke(detail=f"The renderer cannot read what it was asked: {error}.", out_of_memory=False))
            return False
        self._beat(0, now=True)
        try:
            self._say(self._do(request))
        except BaseException as error:
            refused = _refusal(error)
            if refused is not None:
                self._say(refused)
                return True
            traceback.print_exc()
            self._say(_broke(error))
            return False
        return True

    def close(self) -> None:
        """Give back what is loaded."""
        self._engine.close()

    def _do(self, request: Request) -> Answer:
        if isinstance(request, Play):
            return self._play(request)
        return self._measure(request)

    def _play(self, play: Play) -> Played:
        with self._power() as meter:
            self._engine.use(Path(play.bundle), None if play.adapter is None else Path(play.adapter))
            result = self._engine.play(Path(play.photo), Path(play.voice), _sink(play), self._beat)
        running: dict[str, str] = {str(stage): runtime for stage, runtime in self._engine.running.items()}
        return Played(
            frames=result.frames,
            first_frame_ms=result.first_frame_ms,
            fps=result.fps,
            memory_mb=round(peak_rss_mb(), 1),
            power=meter.figures,
            running=running,
            context=result.context | runtime_context(running.values()),
        )

    def _power(self) -> PowerMeter:
        return PowerMeter(self._hwmon, lambda: "rknn" in self._engine.running.values())

    def _measure(self, measure: Measure) -> Measured:
        bundle = Path(measure.bundle)
        adapter = None if measure.adapter is None else Path(measure.adapter)
        report = run_trial(bundle, adapter, self._runtimes, lambda: self._beat(0))
        failures = [report.failure.detail] if report.failure is not None else []
        figures = dict(report.figures)
        if not report.lip_errors:
            return Measured(lip_errors=(), figures=figures, failures=tuple(failures))
        with Bundle.open(bundle) as opened:
            limits = opened.manifest.golden.limits
            photo = opened.portrait()
            clip = opened.read(opened.manifest.golden.clips[0].wav)
        try:
            with self._power() as meter:
                self._engine.use(bundle, adapter)
                result = self._engine.play(photo, decode_voice(clip), NullSink(), self._beat)
        except (NoFace, PhotoError, VoiceError) as error:
            failures.append(f"The bundle's own portrait does not speak: {error}")
        else:
            film = FilmFigures(
                fps=result.fps, first_frame_ms=result.first_frame_ms, memory_mb=peak_rss_mb(), power=meter.figures
            )
            figures |= film.as_reported()
            failures += film.missed(limits)
        return Measured(lip_errors=report.lip_errors, figures=figures, failures=tuple(failures))

    def _fault(self, detail: str) -> None:
        self._say(Fault(detail=sentence(detail)))

    def _beat(self, frames: int, *, now: bool = False) -> None:
        at = time.monotonic()
        if now or at >= self._beat_at + BEAT_S:
            self._beat_at = at
            self._say(Beat(frames=frames))

    def _say(self, answer: Answer) -> None:
        data = line(answer)
        while data:
            data = data[os.write(self._answers, data) :]


def _sink(play: Play) -> FrameSink:
    match play.sink:
        case "mp4":
            return Mp4Sink(play.out)
        case "raw":
            return RawSink(play.out)
        case "none":
            return NullSink()


def _refusal(error: BaseException) -> Refused | None:
    """The answer to work that could not be done for a known reason; None for what this process was not made for."""
    if isinstance(error, NoFace | PhotoError | VoiceError):
        return Refused(detail=sentence(str(error)), blame="input")
    if _out_of_memory(error):
        return None
    match error:
        case WrongBaseModel():
            return Refused(detail=sentence(str(error)), blame="base_model")
        case errors.Refused(reason=errors.Reason.WRONG_BASE_MODEL):
            return Refused(detail=sentence(error.detail), blame="base_model")
        case errors.Refused():
            return Refused(detail=sentence(error.detail), blame="release")
        case AdapterError() | BundleError() | RuntimeFailure():
            return Refused(detail=sentence(str(error)), blame="release")
        case VideoError():
            full = isinstance(error.__cause__, OSError) and error.__cause__.errno in _DISK_FULL
            return Refused(detail=sentence(str(error)), blame="disk" if full else "frame")
        case OSError() if error.errno in _DISK_FULL:
            return Refused(detail="The frame's disk is full: free space on it.", blame="disk")
    return None


def _broke(error: BaseException) -> Broke:
    if _out_of_memory(error):
        return Broke(detail="The renderer needed more memory than it may take, and ended.", out_of_memory=True)
    first = str(error).strip().split("\n", 1)[0].rstrip(".")
    # Libraries that get no memory say the oddest things: the figure helps whoever reads this.
    held = f"it held {private_mb():.0f} MB of memory"
    return Broke(
        detail=sentence(f"The renderer has a fault ({type(error).__name__}: {first}; {held})."), out_of_memory=False
    )


def _out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        if isinstance(error, cv2.error | RuntimeError) and any(words in str(error) for words in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False
