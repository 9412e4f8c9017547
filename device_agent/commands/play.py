"""`play`: a portrait photo speaks a voice, into a video or to a display; says in one JSON line what it took."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from device_agent.playback.sinks import FrameSink
    from device_agent.playback.video import Samples

BASE_BUNDLE = Path(__file__).resolve().parents[2] / "reference_model" / "artifacts" / "talking-portrait-1.0.bundle"
_LIVE = "-"
_LIVE_BYTES = 320
"""10 ms of s16le at 16 kHz: waiting for more would delay the lips."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the sub-command to `device-agent`."""
    parser = subparsers.add_parser("play", help="render a portrait photo and a voice into a video")
    parser.add_argument("--photo", type=Path, required=True, help="a photo in which one face is clearly visible")
    parser.add_argument(
        "--voice", required=True, help='a recording of at most 60 seconds, or "-": 16 kHz mono s16le as it is spoken'
    )
    parser.add_argument("--out", type=Path, help="where the frames go; .mp4 is H.264 at 1920 x 1080 and 25 fps")
    parser.add_argument(
        "--sink", choices=("mp4", "raw", "none"), help="raw: I420 frames to a file or named pipe (default: by --out)"
    )
    parser.add_argument("--adapter", type=Path, help="adapter file; without it the base model speaks alone")
    parser.add_argument("--bundle", type=Path, default=BASE_BUNDLE, help="bundle (default: the reference model)")
    parser.add_argument("--runtime", choices=("auto", "onnx", "rknn"), default="auto", help="what runs the graphs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status: 0, or 1 with one sentence on stderr."""
    # Imported here so that `device-agent --help` does not load the whole pipeline.
    from device_agent.playback.engine import REFUSALS, Engine

    engine = Engine(arguments.runtime, on_fault=lambda sentence: print(sentence, file=sys.stderr))
    try:
        sink = _sink(arguments)
        voice = _live(sys.stdin.fileno()) if arguments.voice == _LIVE else Path(arguments.voice)
        engine.use(arguments.bundle, arguments.adapter)
        result = engine.play(arguments.photo, voice, sink)
    except REFUSALS as error:
        print(f"device-agent play: {error}", file=sys.stderr)
        return 1
    finally:
        engine.close()
    line: dict[str, Any] = asdict(result)
    print(json.dumps(line))
    return 0


def _sink(arguments: argparse.Namespace) -> "FrameSink":
    from device_agent.playback.sinks import Mp4Sink, NullSink, RawSink
    from device_agent.playback.video import VideoError

    out: Path | None = arguments.out
    kind = arguments.sink
    if kind is None:
        kind = "raw" if out is not None and out.suffix.lower() in (".i420", ".yuv") else "mp4"
    if kind == "none":
        return NullSink()
    if out is None:
        raise VideoError("There is no place for the frames: give --out, or --sink none.")
    return RawSink(out) if kind == "raw" else Mp4Sink(out)


def _live(file: int) -> "Iterator[Samples]":
    """Samples in -1..1 as they arrive on a file descriptor, until its end."""
    import numpy as np

    rest = b""
    # Not sys.stdin.buffer: whoever waits in it would still hold its lock when the process ends.
    while data := os.read(file, _LIVE_BYTES):
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(32768)
