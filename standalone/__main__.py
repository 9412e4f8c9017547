"""``python -m standalone up``, ``demo [--once]`` and ``manage COMMAND ...``."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from standalone import demo
from standalone.processes import ServiceError
from standalone.stack import ROOT, USER, Stack
from standalone.supervisor import Supervisor, supervise


def up(var: Path) -> int:
    """The backend alone, with its state kept below ``var``, until Ctrl-C."""

    async def story(supervisor: Supervisor) -> int:
        stack = Stack.below(var)  # the supervisor holds the folder's lock: nobody else makes its secrets now
        await stack.start_database(supervisor)
        await stack.start_services(supervisor)
        print(f"Console: {stack.url}/  (user {USER}, password {stack.password})")
        print(f"Broker:  {stack.broker.url}")
        print(f"Birth:   {stack.birth_url}  (the frames' authority is {stack.ca})")
        print(f"export FRAMEFLEET_SERVER={stack.url} FRAMEFLEET_TOKEN={await stack.api_token(supervisor)}", flush=True)
        return await supervisor.wait()

    return supervise(var, story)


def manage(var: Path, arguments: list[str]) -> int:
    """A local command (``manage.py``) for the stack below ``var``. Newly enrolled frames may connect at once."""
    if not (var / "run" / "status.json").exists():
        raise ServiceError(f"Nothing was ever started in {var}: run 'make up' first, or give --var.")
    return _manage(Stack.below(var), arguments)


def _manage(stack: Stack, arguments: list[str]) -> int:
    environment = {**os.environ, **stack.environment()}
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments], env=environment, check=False
    ).returncode


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 after a clean end, 1 with one sentence, 130 when interrupted in the middle."""
    parser = argparse.ArgumentParser(prog="python -m standalone", description="framefleet on one machine")
    commands = parser.add_subparsers(dest="command", required=True)
    base = Path(os.environ.get("FRAMEFLEET_VAR") or ROOT / "var")
    for name, text in (("up", "the backend until Ctrl-C"), ("demo", "the whole story with 2,300 simulated frames")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--var", type=Path, default=base / name, help="where its state lives")
    local = commands.add_parser("manage", help="a local command for the running backend, for example enrol_frames")
    local.add_argument("--var", type=Path, default=base / "up", help="where the backend's state lives")
    local.add_argument("arguments", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    commands.choices["demo"].add_argument("--once", action="store_true", help="end after the story")
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "demo":
            return demo.run(arguments.var.resolve(), once=arguments.once)
        if arguments.command == "manage":
            if not arguments.arguments:
                parser.error("manage: name a command, for example enrol_frames")
            return manage(arguments.var.resolve(), arguments.arguments)
        return up(arguments.var.resolve())
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
