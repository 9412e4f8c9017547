"""How fast and how good the picture half of the engine is: ``python -m benchmarks.pipeline`` (``make bench-pipeline``).

Every figure of time or memory is the median of five runs, each in a process of its own on this machine; lip errors are
measured on the golden clips of the committed bundle. Nothing here was measured on a frame. The last line is
``BENCH {json}``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import lips, playing

RUNS = 5
FRAME_BYTES = 1920 * 1080 * 3 // 2
PLAY_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Figure:
    """One line of the table: a key, its unit in words, and the bound it must keep, if any."""

    key: str
    words: str
    at_least: float | None = None
    at_most: float | None = None

    def target(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.at_most is None else f"<= {self.at_most:g}"

    def verdict(self, value: float) -> str:
        if self.at_least is None and self.at_most is None:
            return ""
        met = (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)
        return "met" if met else "MISSED"


FIGURES = (
    Figure("fps_h264", "frames per second, 1080p, speaking, into an MP4", at_least=100),
    Figure("fps_no_encode", "the same without encoding", at_least=100),
    Figure("first_frame_live_ms", "first live sample to the frame that shows it, look-ahead included", at_most=160),
    Figure("first_frame_file_ms", "call to first frame in the MP4, warm, a photo seen before", at_most=60),
    Figure("cold_start_s", "process launch to first frame on a pipe", at_most=1.5),
    Figure("peak_rss_mb", "largest resident memory of the process that renders an MP4", at_most=300),
    Figure("adapter_swap_ms", "another adapter over the same bundle, checks included", at_most=5),
    Figure("lip_mm_heldout", "base model on its golden clips, mm", at_most=0.30),
    Figure("lip_mm_mandarin_adapted", "Mandarin adapter on Mandarin golden clips, mm", at_most=0.34),
    Figure("lip_mm_base_adapted", "Mandarin adapter on the base golden clips, mm", at_most=0.36),
    Figure("lip_mm_mean_pose", "a mouth that rests, on the base golden clips, mm"),
    Figure("rknn_delta_mm", "INT8 in the simulator against ORT, adapter never seen, mm", at_most=0.02),
    Figure("gflop_per_frame", "GFLOP of the networks per frame (Wav2Lip's: 7.93)"),
    Figure("first_frame_new_photo_ms", "call to first frame, warm, a photo never seen"),
    Figure("fps_silent", "frames per second while nobody speaks and the head sways, into an MP4"),
    Figure("lip_mm_mandarin_base_model", "base model on Mandarin golden clips, mm"),
    Figure("lip_mm_mandarin_mean_pose", "a mouth that rests, on Mandarin golden clips, mm"),
)


def main() -> int:
    """Returns 0 when every target was met, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--one", choices=sorted(playing.RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"runs per figure (default {RUNS})")
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(playing.RUNS[options.one](Path(folder))))
        return 0
    values = _measure(options.runs)
    print(f"\n{'figure':<28} {'measured':>9}  {'target':<8} {'':<7} what")
    missed = 0
    for figure in FIGURES:
        value = values[figure.key]
        verdict = figure.verdict(value)
        missed += verdict == "MISSED"
        print(f"{figure.key:<28} {value:>9g}  {figure.target():<8} {verdict:<7} {figure.words}")
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, no NPU; {lips.WHAT}")
    print("BENCH " + json.dumps({figure.key: values[figure.key] for figure in FIGURES}))
    return 1 if missed else 0


def _measure(runs: int) -> dict[str, float]:
    print("lips: once, they do not vary ...", flush=True)
    values = lips.measure()
    for name in playing.RUNS:
        print(f"{name}: {runs} runs ...", flush=True)
        results = [_in_own_process(name) for _ in range(runs)]
        values |= {key: round(statistics.median(each[key] for each in results), 2) for key in results[0]}
    print(f"cold start: {runs} runs ...", flush=True)
    values["cold_start_s"] = round(statistics.median(_cold_start() for _ in range(runs)), 3)
    return values


def _in_own_process(name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.pipeline", "--one", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PLAY_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise SystemExit(f"The run {name} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _cold_start() -> float:
    """Seconds from the launch of `device-agent play` until the whole first frame has come out of its pipe."""
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "film.i420"
        os.mkfifo(pipe)
        command = [sys.executable, "-m", "device_agent", "play", "--photo", str(playing.PORTRAIT)]
        command += ["--voice", str(playing.VOICE), "--out", str(pipe), "--sink", "raw"]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with pipe.open("rb") as frames:
            came = len(frames.read(FRAME_BYTES))
            seconds = time.perf_counter() - started
            while frames.read(1 << 20):
                pass
        if process.wait(PLAY_TIMEOUT_S) != 0 or came != FRAME_BYTES:
            raise SystemExit("The cold start failed: no frame came out of the pipe.")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
