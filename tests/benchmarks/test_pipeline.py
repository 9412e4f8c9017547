from pathlib import Path

from benchmarks import playing
from benchmarks.pipeline import FIGURES, Figure

PROMISED = (
    "fps_h264",
    "fps_no_encode",
    "first_frame_live_ms",
    "first_frame_file_ms",
    "cold_start_s",
    "peak_rss_mb",
    "adapter_swap_ms",
    "lip_mm_heldout",
    "lip_mm_mandarin_adapted",
    "lip_mm_base_adapted",
    "lip_mm_mean_pose",
    "rknn_delta_mm",
    "gflop_per_frame",
)


def test_the_promised_figures_come_first_and_each_once() -> None:
    keys = [figure.key for figure in FIGURES]
    assert tuple(keys[: len(PROMISED)]) == PROMISED
    assert len(set(keys)) == len(keys)


def test_a_missed_target_is_called_missed() -> None:
    slow = Figure("fps", "frames per second", at_least=100)
    assert (slow.verdict(99.9), slow.verdict(100)) == ("MISSED", "met")
    large = Figure("mb", "memory", at_most=300)
    assert (large.verdict(300.1), large.verdict(300)) == ("MISSED", "met")
    assert Figure("gflop", "cost").verdict(1e9) == ""


def test_a_run_of_live_speech_gives_its_figure(tmp_path: Path) -> None:
    figures = playing.live(tmp_path)
    assert list(figures) == ["first_frame_live_ms"]
    # The step itself and 80 ms of look-ahead: nothing can be shown earlier.
    assert 120 <= figures["first_frame_live_ms"] < 1000
