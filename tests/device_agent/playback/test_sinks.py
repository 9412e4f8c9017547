import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from device_agent.pipeline.canvas import FRAME_BYTES, Frame, new_frame
from device_agent.playback import sinks
from device_agent.playback.handover import BUFFERS, Canvases, Handover
from device_agent.playback.sinks import NullSink, RawSink
from device_agent.playback.video import Samples, VideoError

SOUND = np.zeros(640, np.float32)


def numbered(value: int) -> Frame:
    frame = new_frame()
    frame[:] = value
    return frame


def test_raw_frames_come_one_after_the_other(tmp_path: Path) -> None:
    sink = RawSink(tmp_path / "film.i420")
    sink.open(16_000)
    for value in (1, 2, 3):
        sink.write(numbered(value), SOUND)
    assert not (tmp_path / "film.i420").exists(), "half a film under the name of a whole one"
    sink.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["film.i420"]
    data = np.fromfile(tmp_path / "film.i420", np.uint8).reshape(3, FRAME_BYTES)
    assert [(row.min(), row.max()) for row in data] == [(1, 1), (2, 2), (3, 3)]


def test_a_discarded_film_leaves_nothing(tmp_path: Path) -> None:
    sink = RawSink(tmp_path / "film.i420")
    sink.open(16_000)
    sink.write(numbered(1), SOUND)
    sink.discard()
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_frames_go_through_a_pipe_and_the_pipe_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "display"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    sink = RawSink(pipe)
    sink.open(16_000)
    sink.write(numbered(7), SOUND)
    sink.finish()
    reader.join(10)
    assert got == [b"\x07" * FRAME_BYTES]
    assert pipe.is_fifo()


def test_a_display_that_goes_away_or_never_came_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "_READER_PATIENCE_S", 0.05)
    pipe = tmp_path / "display"
    os.mkfifo(pipe)
    with pytest.raises(VideoError, match=r"^Nobody reads the frames from .+: start the display first\.$"):
        RawSink(pipe).open(16_000)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    sink = RawSink(pipe)
    sink.open(16_000)
    os.close(reader)
    with pytest.raises(VideoError, match="Nobody reads"):
        sink.write(numbered(1), SOUND)
    sink.discard()


def test_a_display_that_stops_reading_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "_READER_PATIENCE_S", 0.05)
    pipe = tmp_path / "display"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    sink = RawSink(pipe)
    sink.open(16_000)
    with pytest.raises(VideoError, match=r"^The display has not read a frame from .+ for 0.05 s: start it again\.$"):
        sink.write(numbered(1), SOUND)
    sink.discard()
    os.close(reader)


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"^The frames cannot be written to .+: No such file or directory\.$"):
        RawSink(tmp_path / "nowhere" / "film.i420").open(16_000)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence() -> None:
    sink = RawSink(Path("/dev/full"))
    sink.open(16_000)
    with pytest.raises(VideoError, match="No space left on device"):
        sink.write(numbered(1), SOUND)
    sink.discard()


class Recording(NullSink):
    """Remembers the first byte of each frame; can wait or fail before one."""

    def __init__(self, before: Callable[[int], None] = lambda index: None) -> None:
        self.seen: list[int] = []
        self.ends: list[str] = []
        self._before = before

    def write(self, frame: Frame, sound: Samples) -> None:
        self._before(len(self.seen))
        self.seen.append(int(frame[0, 0]))

    def finish(self) -> None:
        self.ends.append("finished")

    def discard(self) -> None:
        self.ends.append("discarded")


def test_frames_arrive_whole_and_in_order_however_slow_the_sink(tmp_path: Path) -> None:
    sink = Recording()
    out = Handover(Canvases(), sink, 16_000)
    for value in range(50):
        canvas = out.blank()
        canvas.frame[:] = value
        out.show(canvas, SOUND)
    out.finish()
    assert sink.seen == list(range(50))
    assert sink.ends == ["finished"]
    assert out.first_written is not None


def test_three_frames_are_all_there_is() -> None:
    go = threading.Event()

    def wait(index: int) -> None:
        go.wait(10)

    sink = Recording(wait)
    canvases = Canvases()
    assert len(canvases.all) == BUFFERS == 3
    out = Handover(canvases, sink, 16_000)
    for _ in range(BUFFERS):
        out.show(out.blank(), SOUND)
    waiting = threading.Thread(target=lambda: out.show(out.blank(), SOUND))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive(), "a fourth frame came from somewhere"
    go.set()
    waiting.join(10)
    out.finish()
    assert len(sink.seen) == 4


def test_what_the_sink_failed_with_comes_out_where_the_frames_are_drawn() -> None:
    def fail(index: int) -> None:
        if index == 2:
            raise VideoError("The disk is full.")

    sink = Recording(fail)
    out = Handover(Canvases(), sink, 16_000)

    def draw() -> None:
        for _ in range(100):
            out.show(out.blank(), SOUND)

    with pytest.raises(VideoError, match="The disk is full"):
        draw()
    out.abandon()
    assert sink.ends == ["discarded"]
    assert len(sink.seen) == 2


@pytest.mark.timeout(20)
def test_a_film_that_is_over_before_its_sink_has_opened_can_be_abandoned() -> None:
    class Shut(Recording):
        def open(self, rate: int) -> None:
            raise VideoError("There is no such folder.")

    sink = Shut()
    out = Handover(Canvases(), sink, 16_000)
    for _ in range(BUFFERS):
        out.show(out.blank(), SOUND)
    with pytest.raises(VideoError, match="no such folder"):
        out.finish()
    out.abandon()
    assert set(sink.ends) == {"discarded"}


def test_an_abandoned_film_is_discarded() -> None:
    sink = Recording()
    out = Handover(Canvases(), sink, 16_000)
    out.show(out.blank(), SOUND)
    out.abandon()
    assert sink.ends == ["discarded"]
