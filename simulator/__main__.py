"""``python -m simulator``: many frames in one process, and what their people did before."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from device_agent.folder import ConfigError
from protocol.clock import PeopleClock
from simulator.history import MAX_DAYS, write_history
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
        "--clock", type=_clock, help="the backend's FRAMEFLEET_PEOPLE_CLOCK, instead of the next two options"
    )
    start.add_argument(
        "--day-seconds", type=_positive, default=15.0, metavar="S", help="real seconds per simulated day"
    )
    start.add_argument("--start-days-ago", type=_positive, default=14.0, metavar="D", help="when people begin to live")
    start.add_argument("--seed", type=int, default=1)
    history = commands.add_parser("history", help="write down what the same people did in the days before the clock")
    history.add_argument(
        "--frames", type=Path, required=True, metavar="DIR", help="what enrol_frames --simulated wrote"
    )
    history.add_argument("--factory", type=Path, required=True, metavar="PACKAGE", help="release they played")
    history.add_argument("--clock", type=_clock, required=True, help="ends where this clock begins")
    history.add_argument("--days", type=_days, default=28)
    history.add_argument("--seed", type=int, default=1)
    history.add_argument("--out", type=Path, required=True, metavar="FILE", help="for manage.py load_history")
    return top


def _clock(text: str) -> PeopleClock:
    try:
        return PeopleClock.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} {error}") from None


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_DAYS):
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is no number of days from 1 to {MAX_DAYS}")
    return int(text)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 ended as asked, 1 could not start (one sentence on stderr), 2 wrong usage."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.command == "history":
            where = (arguments.frames, arguments.factory, arguments.out)
            print(write_history(*where, arguments.clock.start_ms, arguments.days, arguments.seed))
            return 0
        return run(
            Options(
                frames=arguments.frames,
                trust=arguments.trust,
                mqtt=arguments.mqtt or "",
                factory=arguments.factory,
                day_seconds=arguments.day_seconds,
                start_days_ago=arguments.start_days_ago,
                seed=arguments.seed,
                clock=arguments.clock,
            )
        )
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
