"""`status`: what this frame plays and installs."""

import argparse
import json
import sys

from device_agent.settings.layers import add_arguments, from_arguments


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the sub-command to `device-agent`."""
    parser = subparsers.add_parser("status", help="print what this frame plays and installs")
    add_arguments(parser, ["dir"])
    parser.add_argument("--json", action="store_true", help="for programs; so it is where the output is no terminal")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status: 0, or 1 with one sentence on stderr."""
    # Imported here so that the other commands load nothing of this.
    from device_agent.folder import ConfigError, agent_folder, read_identity, trial_policy
    from device_agent.identity.state import stored_state
    from device_agent.page.description import ask, describe, disk
    from device_agent.page.words import in_words
    from device_agent.storage.journal import FileJournal

    try:
        settings = from_arguments(arguments).settings
        folder = agent_folder(settings.dir)
        status = ask(folder)
        if status is None:
            journal = FileJournal(folder.journal).read()
            status = describe(read_identity(folder), journal, trial_policy(settings))
            status |= {"running": False, "disk": disk(folder)} | stored_state(folder.identity)
    except ConfigError as error:
        print(f"device-agent status: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"device-agent status: The frame's journal cannot be read ({error}): start the agent.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"device-agent status: The agent's folder cannot be read: {error}.", file=sys.stderr)
        return 1
    if arguments.json or not sys.stdout.isatty():
        print(json.dumps(status, indent=1, ensure_ascii=False))
    else:
        print(in_words(status), end="")
    return 0
