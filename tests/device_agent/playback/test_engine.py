import hashlib
import io
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device_agent.adapters import AdapterError
from device_agent.bundle import Bundle, BundleError
from device_agent.bundle.manifest import StageName
from device_agent.pipeline.canvas import FRAME_BYTES, Frame
from device_agent.pipeline.photo import PhotoError
from device_agent.pipeline.voice import Voice, VoiceError, read_voice
from device_agent.playback.engine import Engine, PlaybackResult
from device_agent.playback.portraits import KEPT
from device_agent.playback.sinks import NullSink
from device_agent.playback.video import Samples, VideoError
from device_agent.runtime.base import RuntimeFailure, StageRuntime
from device_agent.runtime.fallback import FallbackRuntime
from device_agent.runtime.ort import OrtRuntime
from device_agent.runtime.rknn import RknnRuntime
from tests.device_agent.fake_rknnlite import FakeRknnLite
from tests.device_agent.portrait import ADAPTER, BUNDLE, PORTRAIT, VOICE, encoded, photo
from tests.reference_model.artifacts import with_manifest


class Fingerprints(NullSink):
    """Keeps what can be compared of each frame."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.sound: list[int] = []
        self.finished = False

    def write(self, frame: Frame, sound: Samples) -> None:
        self.frames.append(hashlib.sha256(frame.data).hexdigest())
        self.sound.append(len(sound))

    def finish(self) -> None:
        self.finished = True


def voice(steps: int = 25) -> Voice:
    samples = read_voice(VOICE).samples[8_000 : 8_000 + steps * 640]
    return Voice(samples, samples, 16_000)


def film(engine: Engine, photo: Path | bytes = PORTRAIT, said: Voice | None = None) -> list[str]:
    sink = Fingerprints()
    result = engine.play(photo, said or voice(), sink)
    assert sink.finished
    assert result.frames == len(sink.frames)
    assert set(sink.sound) == {640}
    return sink.frames


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("onnx")
    engine.use(BUNDLE, None)
    yield engine
    engine.close()


def test_a_warm_engine_shows_what_a_fresh_one_does(engine: Engine) -> None:
    plain = film(engine)
    engine.use(BUNDLE, ADAPTER)
    adapted = film(engine)
    assert adapted != plain, "the adapter changes nothing"
    engine.use(BUNDLE, None)
    assert film(engine) == plain
    fresh = Engine("onnx")
    fresh.use(BUNDLE, ADAPTER)
    assert film(fresh) == adapted
    fresh.close()


def test_another_adapter_loads_nothing_else(engine: Engine) -> None:
    film(engine)
    times = []
    for adapter in (ADAPTER, None) * 5:
        started = time.perf_counter()
        engine.use(BUNDLE, adapter)
        times.append(time.perf_counter() - started)
    assert sorted(times)[5] < 0.02, "a swap takes far longer than reading an adapter"


def test_portraits_take_turns_and_few_are_kept(engine: Engine) -> None:
    pictures = [encoded(photo()), encoded(np.ascontiguousarray(photo()[:, ::-1])), encoded(photo() // 2)]
    first = [film(engine, each) for each in pictures]
    assert len({tuple(frames) for frames in first}) == len(pictures) > KEPT
    assert [film(engine, each) for each in reversed(pictures)] == first[::-1]


def test_a_photo_that_was_overwritten_is_read_again(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(photo()))
    before = film(engine, path)
    path.write_bytes(encoded(np.ascontiguousarray(photo()[:, ::-1])))
    assert film(engine, path) != before


def test_whoever_watches_hears_of_every_frame(engine: Engine) -> None:
    beats: list[int] = []
    result = engine.play(PORTRAIT, voice(), NullSink(), beats.append)
    assert beats[0] == 0
    assert beats[-1] == result.frames
    assert sorted(beats) == beats


def test_nothing_is_opened_for_a_photo_or_a_voice_that_cannot_be_used(engine: Engine) -> None:
    class Untouched(NullSink):
        def open(self, rate: int) -> None:
            raise AssertionError("opened")

    silence = np.zeros(32_000, np.float32)
    with pytest.raises(PhotoError):
        engine.play(b"no photo", voice(), Untouched())
    with pytest.raises(VoiceError, match="no speech"):
        engine.play(PORTRAIT, Voice(silence, silence, 16_000), Untouched())


def test_after_any_failure_the_next_film_is_whole(engine: Engine, tmp_path: Path) -> None:
    whole = film(engine)

    class Full(NullSink):
        discarded = False

        def write(self, frame: Frame, sound: Samples) -> None:
            raise VideoError("The disk is full.")

        def discard(self) -> None:
            self.discarded = True

    full = Full()
    with pytest.raises(VideoError, match="disk is full"):
        engine.play(PORTRAIT, voice(), full)
    assert full.discarded

    def interrupt(frames: int) -> None:
        if frames == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.play(PORTRAIT, voice(), NullSink(), interrupt)
    damaged = tmp_path / "damaged.adapter"
    damaged.write_bytes(ADAPTER.read_bytes()[:-10])
    with pytest.raises(AdapterError):
        engine.use(BUNDLE, damaged)
    assert film(engine) == whole


def test_a_bundle_that_cannot_be_used_leaves_an_engine_that_says_so(engine: Engine, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.bundle"
    damaged.write_bytes(BUNDLE.read_bytes()[:-1000])
    with pytest.raises(BundleError):
        engine.use(damaged, None)
    with pytest.raises(RuntimeFailure, match="no release yet"):
        engine.play(PORTRAIT, voice(), NullSink())
    engine.use(BUNDLE, None)
    assert film(engine)


def test_a_release_whose_graph_failed_is_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The NPU gives up in mid-film and the CPU cannot take over: the next film must not find the remains."""
    shortages = ["There is no memory for it now."]

    class Short(OrtRuntime):
        def load(self, bundle: Bundle) -> None:
            if shortages:
                raise RuntimeFailure(shortages.pop())
            super().load(bundle)

    bundle = tmp_path / "both.bundle"
    bundle.write_bytes(with_manifest(lambda manifest: manifest["stages"][0]["graphs"].update(rknn="motion.onnx")))
    lite = FakeRknnLite(fails={"inference": 3})

    def on_npu(stage: StageName) -> StageRuntime:
        return FallbackRuntime(stage, lambda _: None, RknnRuntime(stage, make=lambda: lite), Short)

    monkeypatch.setattr("device_agent.playback.engine.runtimes", lambda *_: on_npu)
    engine = Engine()
    engine.use(bundle, None)
    with pytest.raises(RuntimeFailure, match="no memory for it now"):
        film(engine)
    engine.use(bundle, None)
    assert len(film(engine)) > 0
    assert engine.running == {"motion": "rknn"}
    engine.close()


def test_a_live_voice_is_shown_as_it_comes(engine: Engine) -> None:
    samples = voice(50).samples
    shown: list[float] = []

    class Display(NullSink):
        def write(self, frame: Frame, sound: Samples) -> None:
            shown.append(time.perf_counter())

    spoken: list[float] = []

    def microphone() -> Iterator[Samples]:
        started = time.perf_counter()
        for start in range(0, len(samples), 160):
            time.sleep(max(0.0, started + (start + 160) / 16_000 - time.perf_counter()))
            spoken.append(time.perf_counter())
            yield samples[start : start + 160]

    film(engine)  # warm: what is measured is the way of a sound to the lips
    result: PlaybackResult = engine.play(PORTRAIT, microphone(), Display())
    assert result.frames == len(shown) >= 50
    begun = spoken[0] - 0.01
    late = [at - begun - index / 25 for index, at in enumerate(shown[:48])]
    # 40 ms for the step itself and 80 ms that the model looks ahead; the median, because this machine does other work.
    assert 0.11 < float(np.median(late)) < 0.3


@pytest.mark.slow
def test_raw_samples_on_standard_input_speak_through_a_raw_sink(tmp_path: Path) -> None:
    samples = (np.concatenate([voice(30).samples, np.zeros(80 * 640, np.float32)]) * 32767).astype("<i2").tobytes()
    out = tmp_path / "film.i420"
    command = [sys.executable, "-m", "device_agent", "play", "--photo", str(PORTRAIT), "--voice", "-"]
    process = subprocess.Popen(
        [*command, "--out", str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(samples + b"\x01")  # half a sample is no sample
    process.stdin.flush()  # and stays open: the film ends with its speech
    said, complaints = b"", b""
    try:
        assert process.wait(60) == 0
    finally:
        process.kill()
        assert process.stdout is not None
        assert process.stderr is not None
        said, complaints = process.stdout.read(), process.stderr.read()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
    assert complaints == b""
    assert b'"frames": ' in said
    assert out.stat().st_size % FRAME_BYTES == 0
    assert 70 <= out.stat().st_size // FRAME_BYTES <= 95


def test_a_recording_may_be_given_as_a_file(engine: Engine, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((voice().samples * 32767).astype("<i2").tobytes())
    path = tmp_path / "voice.wav"
    path.write_bytes(stream.getvalue())
    sink = Fingerprints()
    engine.play(PORTRAIT, path, sink)
    assert len(sink.frames) == len(film(engine))
