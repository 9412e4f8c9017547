"""One film from a photo and a voice: the whole pipeline, from files to a file.

Everything that can be wrong with bundle, adapter, photo or voice is found before the first frame is drawn. Run it in a
process of its own: it takes a few hundred MB for some seconds, and an agent should not keep them.
"""

import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from device_agent import adapters
from device_agent.adapters import AdapterError
from device_agent.bundle import Bundle, BundleError
from device_agent.pipeline.eyes import blink_at
from device_agent.pipeline.face import FaceFinder, NoFace
from device_agent.pipeline.framing import HEIGHT, WIDTH
from device_agent.pipeline.motion import MotionStream
from device_agent.pipeline.photo import PhotoError, read_photo
from device_agent.pipeline.render import PortraitRenderer
from device_agent.pipeline.stages import StageGraph
from device_agent.pipeline.voice import VoiceError, read_voice
from device_agent.runtime.base import RuntimeFailure
from device_agent.video import VideoError, VideoWriter, load_av

# What a caller shows to people as it stands: each message is one sentence that says what to do.
REFUSALS = (AdapterError, BundleError, NoFace, PhotoError, RuntimeFailure, VideoError, VoiceError)


@dataclass(frozen=True)
class PlaybackResult:
    """What one rendering took.

    `first_frame_ms`: from the call, model loading included, to the first frame drawn. `fps`: frames drawn and encoded
    per second from then on. `seconds`: the whole call. `peak_rss_mb`: the process's largest resident memory so far.
    """

    first_frame_ms: float
    fps: float
    seconds: float
    frames: int
    peak_rss_mb: float


def render_playback(
    bundle: Path | str | bytes,
    adapter: Path | str | bytes | None,
    photo_path: Path | str,
    voice_path: Path | str,
    out_path: Path | str,
) -> PlaybackResult:
    """Render `photo_path` speaking `voice_path` to an MP4 at `out_path` (1920 x 1080, 25 fps, H.264, AAC).

    `bundle` and `adapter` are paths or contents. Raises one of `REFUSALS`; no file is left behind then.
    """
    started = time.perf_counter()
    load_av()
    voice = read_voice(voice_path)
    photo = read_photo(photo_path)
    with Bundle.open(bundle) as opened:
        graph = StageGraph(opened)
        if adapter is not None:
            source = adapter if isinstance(adapter, bytes) else Path(adapter)
            graph.set_adapter(adapters.load(source, opened.sha256, opened.manifest.adapter))
        landmarks = _face_finder(opened).landmarks(photo)
        graph.load()
    renderer = PortraitRenderer(photo, landmarks)
    del photo
    stream = MotionStream(graph)
    motions: Iterator[npt.NDArray[np.float32]] = chain(stream.push(voice.samples), stream.finish())
    first_frame = started
    with VideoWriter(out_path, WIDTH, HEIGHT, voice.sound, voice.rate) as writer:
        for motion in motions:
            frame = renderer.render(motion, blink_at(writer.frames))
            if writer.frames == 0:
                first_frame = time.perf_counter()
            writer.write(frame)
        frames = writer.frames
    ended = time.perf_counter()
    return PlaybackResult(
        first_frame_ms=round((first_frame - started) * 1000, 1),
        fps=round(frames / max(ended - first_frame, 1e-9), 1),
        seconds=round(ended - started, 3),
        frames=frames,
        peak_rss_mb=round(peak_rss_mb(), 1),
    )


def _face_finder(bundle: Bundle) -> FaceFinder:
    try:
        return FaceFinder(bundle.face_detector(), bundle.face_mesh())
    except cv2.error as error:
        raise BundleError("The bundle's face models cannot be loaded; build the bundle again.") from error


def peak_rss_mb() -> float:
    """The largest resident memory of this process so far, in MB."""
    try:
        # Unlike getrusage's figure, this one does not remember the parent's memory from before exec.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
