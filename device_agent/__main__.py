"""`python -m device_agent` (`device-agent`): one module per sub-command, each with `add_parser(subparsers)`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

COMMANDS = {
    "run": "device_agent.commands.run",
    "claim": "device_agent.commands.claim",
    "status": "device_agent.commands.status",
    "config": "device_agent.commands.config",
    "play": "device_agent.commands.play",
    "compare": "device_agent.commands.compare",
    "render": "device_agent.renderer.command",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="device-agent", description="What runs on each talking photo frame.")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    # Only what is asked for is loaded: an agent that runs for years has no use for what draws pictures.
    asked = COMMANDS.get(argv[0]) if argv else None
    for module in [asked] if asked else COMMANDS.values():
        import_module(module).add_parser(subparsers)
    arguments = parser.parse_args(argv)
    chosen: Callable[[argparse.Namespace], int] = arguments.run
    return chosen(arguments)


if __name__ == "__main__":
    sys.exit(main())
