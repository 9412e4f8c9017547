"""``python -m standalone up`` and ``python -m standalone demo [--once]``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from standalone import demo
from standalone.processes import ServiceError
from standalone.stack import ROOT, USER, Stack
from standalone.supervisor import Supervisor, supervise


def up(var: Path) -> int:
    """The backend alone, with its state kept below ``var``, until Ctrl-C."""
    stack = Stack.below(var)

    async def story(supervisor: Supervisor) -> int:
        await stack.start_database(supervisor)
        await stack.start_services(supervisor)
        print(f"Console: {stack.url}/  (user {USER}, password {stack.password})")
        print(f"Broker:  {stack.broker.url}")
        print(f"export FRAMEFLEET_SERVER={stack.url} FRAMEFLEET_TOKEN={await stack.api_token(supervisor)}", flush=True)
        return await supervisor.wait()

    return supervise(var, story)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 after a clean end, 1 with one sentence, 130 when interrupted in the middle."""
    parser = argparse.ArgumentParser(prog="python -m standalone", description="framefleet on one machine")
    commands = parser.add_subparsers(dest="command", required=True)
    base = Path(os.environ.get("FRAMEFLEET_VAR") or ROOT / "var")
    for name, text in (("up", "the backend until Ctrl-C"), ("demo", "the whole story with 200 simulated frames")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--var", type=Path, default=base / name, help="where its state lives")
    commands.choices["demo"].add_argument("--once", action="store_true", help="end after the story")
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "demo":
            return demo.run(arguments.var.resolve(), once=arguments.once)
        return up(arguments.var.resolve())
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
