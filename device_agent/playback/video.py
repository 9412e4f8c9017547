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

from device_agent.pipeline.canvas import FPS

Image = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]

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

    def __init__(self, path: Path | str, width: int, height: int, rate: int) -> None:
        """`rate`: samples per second of the sound that will come."""
        av = load_av()
        self._av = av
        self._path = Path(path)
        self._partial = self._path.with_name(self._path.name + ".partial")
        self._rate = rate
        self._sent = 0
        self._frames = 0
        with self._complaining():
            self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
        try:
            self._begin(width, height)
        except BaseException:
            self._discard()
            raise

    def _begin(self, width: int, height: int) -> None:
        """Add both streams and write the header."""
        self._video = self._container.add_stream("libx264", rate=FPS)
        self._video.width, self._video.height = width, height
        self._video.pix_fmt = "yuv420p"
        self._video.time_base = Fraction(1, FPS)
        # A portrait is still almost everywhere: the fastest preset costs a little size and nothing visible.
        self._video.options = {"preset": "ultrafast", "crf": "20", "bf": "0", "g": str(2 * FPS)}
        self._video.codec_context.thread_count = 2
        self._audio = self._container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        self._audio.bit_rate = 96_000
        self._resampler = self._av.AudioResampler(
            format="fltp", layout="mono", rate=SOUND_RATE, frame_size=_AUDIO_BLOCK
        )
        with self._complaining():
            self._container.start_encoding()

    @property
    def frames(self) -> int:
        """How many frames were written."""
        return self._frames

    def write(self, frame: Image, sound: Samples) -> None:
        """Append one I420 frame, (1.5 x height, width) uint8, and its sound, (rate / 25,) float32 mono in -1..1.

        The frame may be drawn over as soon as this returns.
        """
        picture = self._av.VideoFrame.from_numpy_buffer(frame, format="yuv420p")
        picture.pts, picture.time_base = self._frames, Fraction(1, FPS)
        self._frames += 1
        self._mux(self._video, picture)
        if len(sound):
            self._write_sound(sound)

    def _write_sound(self, sound: Samples) -> None:
        block = self._av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="fltp", layout="mono")
        block.sample_rate = self._rate
        block.pts, block.time_base = self._sent, Fraction(1, self._rate)
        self._sent += len(sound)
        self._encode_sound(self._resampler.resample(block))

    def _encode_sound(self, blocks: Any) -> None:
        for block in blocks:
            self._mux(self._audio, block)

    def _mux(self, stream: Any, frame: Any) -> None:
        """Encode a frame, or with None what the encoder still holds, and write it."""
        with self._complaining():
            for packet in stream.encode(frame):
                self._container.mux(packet)

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        """Errors of the file system and of the encoders become one sentence; too little memory stays what it is."""
        try:
            yield
        except MemoryError:
            raise
        except (OSError, self._av.FFmpegError) as error:
            what = getattr(error, "strerror", None) or error
            raise VideoError(f"The video {self._path} cannot be written: {what}.") from error

    def _discard(self) -> None:
        with suppress(OSError, self._av.FFmpegError):
            self._container.close()
        with suppress(OSError):
            self._partial.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._discard()
            return
        try:
            if self._sent:
                self._encode_sound(self._resampler.resample(None))
            for stream in (self._video, self._audio):
                self._mux(stream, None)
            with self._complaining():
                self._container.close()
                self._partial.replace(self._path)
        except BaseException:
            self._discard()
            raise


def sound_of(sound: Samples, rate: int, frame: int) -> Samples:
    """The sound (n,) at `rate` Hz that belongs to frame number `frame`; silence after its end."""
    first, last = frame * rate // FPS, (frame + 1) * rate // FPS
    part = sound[first:last]
    return part if len(part) == last - first else np.pad(part, (0, last - first - len(part)))


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
        except (OSError, self._av.FFmpegError) as error:  # not all of PyAV's errors are OSErrors
            raise VideoError(f"The video {self._path} cannot be read: render it again.") from error
        if not container.streams.video:
            container.close()
            raise VideoError(f"The file {self._path} holds no video: give the path of a rendered one.")
        return container
