"""One run of each playback that `benchmarks.pipeline` measures; each is called in a fresh process."""

import time
import wave
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from device_agent.pipeline.canvas import Frame
from device_agent.pipeline.voice import Voice, read_voice
from device_agent.playback.engine import Engine
from device_agent.playback.sinks import Mp4Sink, NullSink
from device_agent.playback.video import Samples

REFERENCE: Final = Path(__file__).parents[1] / "reference_model"
PORTRAIT: Final = REFERENCE / "assets" / "portrait.png"
VOICE: Final = REFERENCE / "assets" / "voice-zh.wav"
VOICES: Final = (REFERENCE / "assets" / "voice-en.wav", VOICE)
BUNDLE: Final = REFERENCE / "artifacts" / "talking-portrait-1.0.bundle"
ADAPTER: Final = REFERENCE / "artifacts" / "mandarin.adapter"
SPEECH_S: Final = 30.0
SWAPS: Final = 21
LIVE_BLOCK: Final = 160
"""Samples: 10 ms."""

Figures = dict[str, float]


def h264(folder: Path) -> Figures:
    result = _engine().play(PORTRAIT, _long_speech(folder), Mp4Sink(folder / "film.mp4"))
    return {"fps_h264": result.fps, "peak_rss_mb": result.peak_rss_mb}


def no_encode(folder: Path) -> Figures:
    return {"fps_no_encode": _engine().play(PORTRAIT, _long_speech(folder), NullSink()).fps}


def silent(folder: Path) -> Figures:
    """Two words with 20 s of nothing between them; with the words the film is a little faster than the sway alone."""
    words = read_voice(VOICE).samples[:16_000]
    samples = np.concatenate([words, np.zeros(20 * 16_000, np.float32), words])
    return {"fps_silent": _engine().play(PORTRAIT, Voice(samples, samples, 16_000), Mp4Sink(folder / "film.mp4")).fps}


def warm(folder: Path) -> Figures:
    engine = _engine()
    engine.play(PORTRAIT, VOICE, Mp4Sink(folder / "first.mp4"))
    seen = engine.play(PORTRAIT, VOICE, Mp4Sink(folder / "second.mp4"))
    unseen = folder / "unseen.png"
    unseen.write_bytes(PORTRAIT.read_bytes())
    new = engine.play(unseen, VOICE, Mp4Sink(folder / "third.mp4"))
    swaps = []
    for adapter in (None, *([ADAPTER, None] * SWAPS))[: SWAPS + 1]:
        started = time.perf_counter()
        engine.use(BUNDLE, adapter)
        if adapter is not None:
            swaps.append((time.perf_counter() - started) * 1000)
    return {
        "first_frame_file_ms": seen.first_frame_ms,
        "first_frame_new_photo_ms": new.first_frame_ms,
        "adapter_swap_ms": median(swaps),
    }


def live(folder: Path) -> Figures:
    """1.2 s of speech pushed in real time: a block of 10 ms arrives when its last sample was spoken."""
    engine = _engine()
    engine.play(PORTRAIT, VOICE, NullSink())
    samples = read_voice(VOICE).samples[:19_200]
    spoken: list[float] = []

    def microphone() -> Iterator[Samples]:
        spoken.append(time.perf_counter())
        for start in range(0, len(samples), LIVE_BLOCK):
            time.sleep(max(0.0, spoken[0] + (start + LIVE_BLOCK) / 16_000 - time.perf_counter()))
            yield samples[start : start + LIVE_BLOCK]

    display = _Display()
    engine.play(PORTRAIT, microphone(), display)
    return {"first_frame_live_ms": (display.first - spoken[0]) * 1000}


class _Display(NullSink):
    """Notes when the first frame came."""

    def __init__(self) -> None:
        self.first = 0.0

    def write(self, frame: Frame, sound: Samples) -> None:
        self.first = self.first or time.perf_counter()


RUNS: Final[dict[str, Callable[[Path], Figures]]] = {
    "h264": h264,
    "no_encode": no_encode,
    "silent": silent,
    "warm": warm,
    "live": live,
}


def _engine() -> Engine:
    engine = Engine()
    engine.use(BUNDLE, ADAPTER)
    return engine


def _long_speech(folder: Path) -> Path:
    """Half a minute of speech without pauses: the demo's voices in turn."""
    parts: list[Samples] = []
    for path in cycle(VOICES):
        parts.append(read_voice(path).samples)
        if sum(map(len, parts)) >= SPEECH_S * 16_000:
            break
    target = folder / "voice.wav"
    with wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((np.concatenate(parts) * 32767).astype("<i2").tobytes())
    return target
