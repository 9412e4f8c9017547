"""``framectl``: the entry point. Exit codes: 0 done, 1 refused or failed with one sentence, 2 wrong usage."""

import argparse
import functools
import os
import sys
from collections.abc import Sequence

from framectl.commands import (
    adapter,
    agent,
    audit,
    frames,
    groups,
    keys,
    release,
    repository,
    rollout,
    segments,
    tokens,
    webhooks,
)
from framectl.errors import CommandFailed


@functools.cache
def parser() -> argparse.ArgumentParser:
    """The whole command line, put together once for everybody who runs commands in one process."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--server", help="the server's address (FRAMEFLEET_SERVER)")
    common.add_argument("--token", help="an API token (FRAMEFLEET_TOKEN)")
    common.add_argument("--json", action="store_true", help="print JSON for programs")
    top = argparse.ArgumentParser(
        prog="framectl", description="Sign releases offline and operate a framefleet server.", parents=[common]
    )
    groups_of_commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (
        keys,
        repository,
        adapter,
        agent,
        release,
        rollout,
        groups,
        frames,
        segments,
        webhooks,
        tokens,
        audit,
    ):
        module.add_parser(groups_of_commands, common)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    try:
        arguments = parser().parse_args(argv)
        arguments.run(arguments)
        sys.stdout.flush()
    except CommandFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except UnicodeEncodeError:
        print("An argument holds bytes that are no text: write it in UTF-8.", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (say, `head`) has seen enough; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
