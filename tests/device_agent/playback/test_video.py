from pathlib import Path

import numpy as np
import pytest

from device_agent.playback.video import VideoError, VideoReader, VideoWriter

pytest.importorskip("av", reason="H.264 files need the extra mp4")

WIDTH, HEIGHT, RATE = 64, 48, 16_000
FRAME = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
SOUND = np.zeros(RATE // 25, np.float32)


def test_an_encoder_that_cannot_start_is_one_sentence_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="cannot be written"):
        VideoWriter(tmp_path / "film.mp4", WIDTH + 1, HEIGHT + 1, RATE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [RuntimeError("odd"), MemoryError()])
def test_whatever_goes_wrong_at_the_end_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(*_: object) -> None:
        raise failure

    writer = VideoWriter(tmp_path / "film.mp4", WIDTH, HEIGHT, RATE)
    writer.write(FRAME, SOUND)
    monkeypatch.setattr(writer, "_mux", fail)
    with pytest.raises(type(failure)):
        writer.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_video_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(VideoError, match="cannot be read"):
        next(VideoReader(path).frames())
