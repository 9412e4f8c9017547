"""``python -m simulator``: many frames in one process."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from device_agent.folder import ConfigError
from simulator.run import Options, run


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="simulator", description="Many simulated frames, and people in front of them.")
    commands = top.add_subparsers(dest="command", required=True)
    start = commands.add_parser("run", help="connect the frames and let people live until SIGTERM")
    start.add_argument("--frames", type=Path, required=True, metavar="DIR", help="what enrol_frames --simulated wrote")
    start.add_argument("--trust", type=Path, required=True, metavar="DIR", help="root.json and director-root.json")
    start.add_argument("--mqtt", default=os.environ.get("MQTT_URL"), metavar="URL", help="mqtts://host:port (MQTT_URL)")
    start.add_argument("--factory", type=Path, required=True, metavar="PACKAGE", help="release frames are born with")
    start.add_argument(
        "--day-seconds", type=_positive, default=15.0, metavar="S", help="real seconds per simulated day"
    )
    start.add_argument("--start-days-ago", type=_positive, default=14.0, metavar="D", help="when people begin to live")
    start.add_argument("--seed", type=int, default=1)
    return top


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 ended as asked, 1 could not start (one sentence on stderr), 2 wrong usage."""
    arguments = parser().parse_args(argv)
    try:
        return run(
            Options(
                frames=arguments.frames,
                trust=arguments.trust,
                mqtt=arguments.mqtt or "",
                factory=arguments.factory,
                day_seconds=arguments.day_seconds,
                start_days_ago=arguments.start_days_ago,
                seed=arguments.seed,
            )
        )
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
