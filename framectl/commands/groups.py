"""``framectl groups``: FrameGroups, saved queries over frames."""

from argparse import ArgumentParser, Namespace
from typing import Any

from framectl.client import Client
from framectl.output import show, table


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``groups create`` and ``groups list``."""
    commands = groups.add_parser("groups", help="FrameGroups").add_subparsers(dest="action", required=True)
    create = commands.add_parser("create", parents=[common], help="save a query under a name")
    create.add_argument("name")
    create.add_argument("--query", default="", help="for example locale=zh,hardware=rk3588 (default: every frame)")
    create.set_defaults(run=_create)
    listing = commands.add_parser("list", parents=[common], help="all FrameGroups")
    listing.set_defaults(run=_list)


def _create(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        group = client.post("groups/", {"name": arguments.name, "query": arguments.query})
    show(arguments, group, f"FrameGroup {arguments.name}: {arguments.query or 'every frame'}.")


def _list(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        found = list(client.pages("groups/"))
    rows = [(group["name"], group["query"] or "every frame", group.get("frames")) for group in found]
    show(arguments, found, lambda: table(("GROUP", "QUERY", "FRAMES"), rows))
