import json
import re
import subprocess
import sys
import wave
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from device_agent.__main__ import main
from device_agent.commands.compare import compare
from device_agent.playback.video import SOUND_RATE, VideoError, VideoReader, VideoWriter, sound_of
from tests.device_agent.portrait import ADAPTER, BUNDLE, PORTRAIT, VOICE, encoded

av = pytest.importorskip("av", reason="H.264 files need the extra mp4")


def short_voice(path: Path, seconds: float = 1.0) -> Path:
    with wave.open(str(VOICE), "rb") as whole, wave.open(str(path), "wb") as part:
        part.setparams(whole.getparams())
        whole.readframes(whole.getframerate() // 2)
        part.writeframes(whole.readframes(round(whole.getframerate() * seconds)))
    return path


def check_film(path: Path, seconds: float, sound: bool = True) -> None:
    with av.open(str(path)) as film:
        video = film.streams.video[0]
        assert (video.codec_context.width, video.codec_context.height) == (1920, 1080)
        assert video.codec_context.name == "h264"
        assert video.average_rate == 25
        assert abs(float(video.duration * video.time_base) - seconds) <= 0.04
        audio = film.streams.audio[0]
        assert audio.codec_context.name == "aac"
        assert abs(float(audio.duration * audio.time_base) - seconds) <= 0.06
        times = [packet.pts * packet.time_base for packet in film.demux(video) if packet.pts is not None]
    times.sort()
    assert {later - earlier for earlier, later in pairwise(times)} == {Fraction(1, 25)}
    if sound:
        assert np.abs(VideoReader(path).sound()).max() > 0.05


@pytest.mark.slow
def test_play_renders_a_film_with_its_voice(tmp_path: Path) -> None:
    voice, out = short_voice(tmp_path / "voice.wav", 1.3), tmp_path / "film.mp4"
    command = [sys.executable, "-m", "device_agent", "play", "--photo", str(PORTRAIT), "--voice", str(voice)]
    done = subprocess.run(
        [*command, "--adapter", str(ADAPTER), "--out", str(out)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    result = json.loads(lines[0])
    assert set(result) == {"first_frame_ms", "fps", "seconds", "frames", "peak_rss_mb", "context"}
    assert result["frames"] == 43, "1.3 s of speech and 0.4 s in which the lips close"
    assert 0 < result["first_frame_ms"] < result["seconds"] * 1000
    assert result["fps"] > 25, "slower than the film plays"
    assert 50 < result["peak_rss_mb"] < 800
    check_film(out, 43 / 25)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("film")] == ["film.mp4"]


@pytest.mark.slow
def test_the_lips_follow_the_voice_and_the_adapter(tmp_path: Path) -> None:
    voice = short_voice(tmp_path / "voice.wav")
    arguments = ["play", "--photo", str(PORTRAIT), "--voice", str(voice), "--bundle", str(BUNDLE)]
    assert main([*arguments, "--out", str(tmp_path / "base.mp4")]) == 0
    assert main([*arguments, "--adapter", str(ADAPTER), "--out", str(tmp_path / "adapted.mp4")]) == 0
    base = np.stack([frame[500:840, 735:1166] for frame in VideoReader(tmp_path / "base.mp4").frames()]).astype(int)
    adapted = np.stack([frame[500:840, 735:1166] for frame in VideoReader(tmp_path / "adapted.mp4").frames()])
    assert np.abs(np.diff(base, axis=0)).max(axis=(1, 2, 3)).mean() > 30, "nothing moves"
    assert np.abs(base - adapted).max() > 40, "the adapter changes nothing"

    frames = compare(tmp_path / "base.mp4", tmp_path / "adapted.mp4", tmp_path / "both.mp4", "1.0", "1.1")
    assert frames == 35
    check_film(tmp_path / "both.mp4", 1.4)
    first = next(VideoReader(tmp_path / "both.mp4").frames())
    assert (first[:84, 400:560].min(axis=2) > 220).any()
    assert (first[:84, 1360:1520].min(axis=2) > 220).any()


@pytest.mark.parametrize(
    ("spoiled", "sentence"),
    [
        ("photo", "The photo shows no face: use one in which a single face is clearly visible."),
        ("voice", "not a sound file"),
        ("adapter", "adapter"),
        ("bundle", "bundle"),
        ("out", "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_file(
    spoiled: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    paths = {
        "photo": PORTRAIT,
        "voice": short_voice(tmp_path / "voice.wav", 0.2),
        "adapter": ADAPTER,
        "bundle": BUNDLE,
        "out": tmp_path / "out" / "film.mp4",
    }
    (tmp_path / "out").mkdir()
    if spoiled == "out":
        paths["out"] = tmp_path / "nowhere" / "film.mp4"
    else:
        paths[spoiled] = tmp_path / "spoiled"
        paths[spoiled].write_bytes(encoded(noise) if spoiled == "photo" else noise.tobytes())
    status = main(["play", *(word for name, path in paths.items() for word in (f"--{name}", str(path)))])
    output = capsys.readouterr()
    assert status == 1
    assert output.out == ""
    assert re.fullmatch(r"device-agent play: [A-Z].+\.\n", output.err)
    assert sentence in output.err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_film_that_fails_half_way_leaves_no_file(tmp_path: Path) -> None:
    def interrupted() -> None:
        with VideoWriter(tmp_path / "film.mp4", 64, 64, 16_000) as writer:
            writer.write(np.zeros((96, 64), np.uint8), np.zeros(640, np.float32))
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_sound_stays_in_step_with_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "clap.mp4"
    sound = np.zeros(16_000, np.float32)
    sound[8_000:8_160] = 0.9  # a click at 0.5 s
    with VideoWriter(path, 64, 64, 16_000) as writer:
        for index in range(25):
            grey = np.full((96, 64), 128, np.uint8)
            grey[:64] = 235 if index >= 12 else 16  # light from 0.48 s on
            writer.write(grey, sound_of(sound, 16_000, index))
    bright = [int(frame.mean()) > 128 for frame in VideoReader(path).frames()]
    heard = np.abs(VideoReader(path).sound())
    assert bright.index(True) == 12
    assert abs(int(heard.argmax()) / SOUND_RATE - 0.505) < 0.03


def test_something_that_is_no_film_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(VideoError, match="cannot be read"):
        next(VideoReader(VOICE.with_name("THIRD_PARTY.md")).frames())
    with pytest.raises(VideoError, match="holds no video"):
        next(VideoReader(VOICE).frames())
    status = main(["compare", "--left", str(VOICE), "--right", str(VOICE), "--out", str(tmp_path / "both.mp4")])
    assert status == 1
    assert "holds no video" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_pyav_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    arguments = ["play", "--photo", str(PORTRAIT), "--voice", str(VOICE), "--out", str(tmp_path / "film.mp4")]
    assert main(arguments) == 1
    assert "install framefleet[mp4]" in capsys.readouterr().err
