"""`play`: render a portrait photo and a voice into a video, and say in one JSON line what it took."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

BASE_BUNDLE = Path(__file__).resolve().parent.parent / "reference_model" / "artifacts" / "talking-portrait-1.0.bundle"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the sub-command to `device-agent`."""
    parser = subparsers.add_parser("play", help="render a portrait photo and a voice into a video")
    parser.add_argument("--photo", type=Path, required=True, help="JPEG or PNG in which one face is clearly visible")
    parser.add_argument("--voice", type=Path, required=True, help="WAV of at most 60 seconds")
    parser.add_argument("--out", type=Path, required=True, help="the MP4 to write: 1920 x 1080, 25 fps, H.264")
    parser.add_argument("--adapter", type=Path, help="adapter file; without it the base model speaks alone")
    parser.add_argument("--bundle", type=Path, default=BASE_BUNDLE, help="bundle (default: the reference model)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status: 0, or 1 with one sentence on stderr."""
    # Imported here so that `device-agent --help` does not load the whole pipeline.
    from device_agent.playback import REFUSALS, render_playback

    try:
        result = render_playback(arguments.bundle, arguments.adapter, arguments.photo, arguments.voice, arguments.out)
    except REFUSALS as error:
        print(f"device-agent play: {error}", file=sys.stderr)
        return 1
    line: dict[str, Any] = asdict(result)
    print(json.dumps(line))
    return 0
