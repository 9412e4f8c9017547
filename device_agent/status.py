"""`status`: what this frame plays and installs."""

import argparse
import json
import sys

from device_agent.settings import add_arguments, from_arguments


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the sub-command to `device-agent`."""
    parser = subparsers.add_parser("status", help="print what this frame plays and installs, as JSON")
    add_arguments(parser, ["dir"])
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status: 0, or 1 with one sentence on stderr."""
    # Imported here so that the other commands load nothing of this.
    from device_agent.config import ConfigError, agent_folder, read_identity
    from device_agent.description import ask, describe
    from device_agent.journal import FileJournal

    try:
        folder = agent_folder(from_arguments(arguments).settings.dir)
        status = ask(folder)
        if status is None:
            status = describe(read_identity(folder), FileJournal(folder.journal).load()) | {"running": False}
    except ConfigError as error:
        print(f"device-agent status: {error}", file=sys.stderr)
        return 1
    print(json.dumps(status, indent=1, ensure_ascii=False))
    return 0
