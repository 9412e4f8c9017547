"""H.264 files: writing a talking portrait, reading frames back.

PyAV is the extra `mp4` and stays off frames (its wheels carry x264, under the GPL); it is imported only when a file is
really written or read.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from device_agent.pipeline.voice import resample

Image = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]

FPS: Final = 25
SOUND_RATE: Final = 48_000
_AUDIO_BLOCK: Final = 1024


class VideoError(RuntimeError):
    """A video cannot be written or read. The message is one sentence that says what to do."""


def load_av() -> ModuleType:
    """PyAV, or a `VideoError` that says how to get it."""
    try:
        import av
    except ImportError as error:
        raise VideoError("H.264 files need PyAV: install framefleet[mp4].") from error
    return av


class VideoWriter:
    """Writes one MP4: H.264 at 25 fps with an AAC sound track. Use as a context manager.

    Leaving the block with an exception leaves no file behind.
    """

    def __init__(self, path: Path | str, width: int, height: int, sound: Samples, rate: int) -> None:
        """`sound` (n,) float32 mono in -1..1 at `rate` Hz; it is cut or padded by silence to the video's length."""
        av = load_av()
        self._av = av
        self._path = Path(path)
        self._partial = self._path.with_name(self._path.name + ".partial")
        self._sound = resample(sound, rate, SOUND_RATE)
        self._sent = 0
        self._frames = 0
        with self._complaining():
            self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
        self._video = self._container.add_stream("libx264", rate=FPS)
        self._video.width, self._video.height = width, height
        self._video.pix_fmt = "yuv420p"
        self._video.time_base = Fraction(1, FPS)
        # A portrait is still almost everywhere: the fastest preset costs a little size and nothing visible.
        self._video.options = {"preset": "ultrafast", "crf": "20", "bf": "0", "g": str(2 * FPS)}
        self._video.codec_context.thread_count = 2
        self._audio = self._container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        self._audio.bit_rate = 96_000
        with self._complaining():
            self._container.start_encoding()

    @property
    def frames(self) -> int:
        """How many frames were written."""
        return self._frames

    def write(self, frame: Image) -> None:
        """Append one frame, (height, width, 3) uint8 BGR, and the 40 ms of sound that belong to it."""
        picture = self._av.VideoFrame.from_ndarray(frame, format="bgr24")
        picture.pts, picture.time_base = self._frames, Fraction(1, FPS)
        self._frames += 1
        self._mux(self._video.encode(picture))
        self._write_sound(self._frames * SOUND_RATE // FPS)

    def _write_sound(self, until: int) -> None:
        while self._sent + _AUDIO_BLOCK <= until:
            self._write_block(_AUDIO_BLOCK)

    def _write_block(self, length: int) -> None:
        block = np.zeros((1, length), np.float32)
        part = self._sound[self._sent : self._sent + length]
        block[0, : len(part)] = part
        frame = self._av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate = SOUND_RATE
        frame.pts, frame.time_base = self._sent, Fraction(1, SOUND_RATE)
        self._sent += length
        self._mux(self._audio.encode(frame))

    def _mux(self, packets: Any) -> None:
        with self._complaining():
            for packet in packets:
                self._container.mux(packet)

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        """Errors of the file system (PyAV's are OSErrors) become one sentence."""
        try:
            yield
        except OSError as error:
            raise VideoError(f"The video {self._path} cannot be written: {error.strerror or error}.") from error

    def _discard(self) -> None:
        with suppress(OSError):
            self._container.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._discard()
            return
        try:
            rest = min(self._frames * SOUND_RATE // FPS, len(self._sound)) - self._sent
            if rest > 0:
                self._write_block(rest)
            for stream in (self._video, self._audio):
                self._mux(stream.encode(None))
            with self._complaining():
                self._container.close()
                self._partial.replace(self._path)
        except VideoError:
            self._discard()
            raise


class VideoReader:
    """Reads one video file: its frames in order, and its sound."""

    def __init__(self, path: Path | str) -> None:
        self._av = load_av()
        self._path = Path(path)

    def frames(self) -> Iterator[Image]:
        """Every frame, (height, width, 3) uint8 BGR."""
        with self._open() as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="bgr24")

    def sound(self) -> Samples:
        """The first sound track as (n,) float32 mono at 48 kHz; empty where there is none."""
        with self._open() as container:
            if not container.streams.audio:
                return np.zeros(0, np.float32)
            resampler = self._av.AudioResampler(format="fltp", layout="mono", rate=SOUND_RATE)
            parts = [
                piece.to_ndarray().reshape(-1)
                for frame in container.decode(audio=0)
                for piece in resampler.resample(frame)
            ]
            parts += [piece.to_ndarray().reshape(-1) for piece in resampler.resample(None)]
        return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)

    def _open(self) -> Any:
        try:
            container = self._av.open(str(self._path))
        except OSError as error:  # PyAV's errors are OSErrors
            raise VideoError(f"The video {self._path} cannot be read: render it again.") from error
        if not container.streams.video:
            container.close()
            raise VideoError(f"The file {self._path} holds no video: give the path of a rendered one.")
        return container
