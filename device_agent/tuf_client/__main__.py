"""The command line of the public TUF conformance suite.

    python -m device_agent.tuf_client --metadata-dir D init ROOT
    python -m device_agent.tuf_client --metadata-dir D --metadata-url U refresh
    python -m device_agent.tuf_client --metadata-dir D --metadata-url U --target-name T --target-base-url B
                                      --target-dir X download

Exit status 0, or 1 with one sentence on stderr. ``--target-name`` may be repeated.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from device_agent.trust.roots import NoTrustAnchor
from device_agent.tuf_client.client import TufClient, initialise
from protocol.errors import Refused


def main(arguments: list[str] | None = None) -> int:
    """Run one command; see the module's text."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "init":
            initialise(options.metadata_dir, options.root.read_bytes())
            return 0
        client = TufClient(options.metadata_dir, _given(options, "metadata_url"))
        client.refresh()
        if options.command == "download":
            base_url, folder = _given(options, "target_base_url"), _given(options, "target_dir")
            for name in _given(options, "target_name"):
                client.download(client.target(name), base_url, folder)
    except Refused as refused:
        return _say(refused.detail)
    except (NoTrustAnchor, ValueError) as error:
        return _say(str(error))
    except OSError as error:
        return _say(f"{error}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m device_agent.tuf_client", description="The frame's TUF client.")
    parser.add_argument("--metadata-dir", required=True, type=Path)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name", action="append")
    parser.add_argument("--target-base-url")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="trust this root").add_argument("root", type=Path)
    commands.add_parser("refresh", help="bring the documents up to date")
    commands.add_parser("download", help="the same, then bring targets")
    return parser


def _given(options: argparse.Namespace, name: str) -> Any:
    value = getattr(options, name)
    if value is None:
        raise ValueError(f"{options.command} needs --{name.replace('_', '-')}.")
    return value


def _say(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
