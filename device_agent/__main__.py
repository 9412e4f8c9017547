"""`python -m device_agent` (`device-agent`): one module per sub-command, each with `add_parser(subparsers)`."""

import argparse
import sys
from collections.abc import Callable, Sequence

from device_agent import compare, play, run, show_config, status


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit status."""
    parser = argparse.ArgumentParser(prog="device-agent", description="What runs on each talking photo frame.")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (play, compare, run, status, show_config):
        module.add_parser(subparsers)
    arguments = parser.parse_args(argv)
    chosen: Callable[[argparse.Namespace], int] = arguments.run
    return chosen(arguments)


if __name__ == "__main__":
    sys.exit(main())
