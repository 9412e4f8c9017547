"""`config`: the settings in force, and where each came from."""

import argparse
import sys

from device_agent.settings.kinds import ConfigError
from device_agent.settings.layers import add_arguments, from_arguments


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the sub-command to `device-agent`."""
    parser = subparsers.add_parser("config", help="print the settings in force as a settings file, with their origins")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status: 0, or 1 with one sentence on stderr."""
    try:
        print(from_arguments(arguments).toml(), end="")
    except ConfigError as error:
        print(f"device-agent config: {error}", file=sys.stderr)
        return 1
    return 0
