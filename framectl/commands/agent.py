"""``framectl agent``: make the file with which a release brings an agent."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from framectl.agents import check_agent, pack_agent
from framectl.files import write_new
from framectl.output import printable, show


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``agent pack``."""
    commands = groups.add_parser("agent", help="the agent, before it becomes part of a release").add_subparsers(
        dest="action", required=True
    )
    pack = commands.add_parser("pack", parents=[common], help="make an agent file; the same source gives the same file")
    pack.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file; never overwritten")
    pack.add_argument(
        "--source", type=Path, metavar="DIR", help="holds device_agent/ and protocol/ (default: those installed here)"
    )
    pack.set_defaults(run=_pack)


def _pack(arguments: Namespace) -> None:
    data = pack_agent(arguments.source)
    write_new(arguments.out, data, "the agent file")
    found = check_agent(data, str(arguments.out))
    said = f"Packed agent {found.version} as {arguments.out}: {found.length} bytes, SHA-256 {found.sha256}."
    show(arguments, {"file": str(arguments.out), **asdict(found)}, printable(said))
