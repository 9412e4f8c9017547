"""``framectl groups``: FrameGroups, saved queries over frames."""

from argparse import ArgumentParser, Namespace
from typing import Any

from framectl.client import Client
from framectl.output import show, table


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``groups create``, ``groups transfer`` and ``groups list``."""
    commands = groups.add_parser("groups", help="FrameGroups").add_subparsers(dest="action", required=True)
    create = commands.add_parser("create", parents=[common], help="save a query under a name")
    create.add_argument("name")
    create.add_argument("--query", default="", help="for example locale=zh,hardware=rk3588 (default: every frame)")
    create.set_defaults(run=_create)
    transfer = commands.add_parser(
        "transfer", parents=[common], help="when and how much its frames may download; what is left out has no bound"
    )
    transfer.add_argument("name")
    transfer.add_argument(
        "--quiet-hours", default="", metavar="08:00-22:00", help="no downloads then, in their own time"
    )
    transfer.add_argument("--daily-mb", type=int, metavar="MB", help="at most this much a day and frame")
    transfer.set_defaults(run=_transfer)
    listing = commands.add_parser("list", parents=[common], help="all FrameGroups")
    listing.set_defaults(run=_list)


def _create(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        group = client.post("groups/", {"name": arguments.name, "query": arguments.query})
    show(arguments, group, f"FrameGroup {arguments.name}: {arguments.query or 'every frame'}.")


def _transfer(arguments: Namespace) -> None:
    body = {"name": arguments.name, "quiet_hours": arguments.quiet_hours, "daily_mb": arguments.daily_mb}
    with Client.from_arguments(arguments) as client:
        group = client.put("groups/transfer/", body)
    show(arguments, group, f"FrameGroup {arguments.name}: {_bounds(group) or 'no bounds on downloads'}.")


def _bounds(group: dict[str, Any]) -> str:
    quiet = f"quiet {group['quiet_hours']}" if group.get("quiet_hours") else ""
    budget = f"{group['daily_mb']} MB a day" if group.get("daily_mb") else ""
    return ", ".join(filter(None, (quiet, budget)))


def _list(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        found = list(client.pages("groups/"))
    rows = [(group["name"], group["query"] or "every frame", group.get("frames"), _bounds(group)) for group in found]
    show(arguments, found, lambda: table(("GROUP", "QUERY", "FRAMES", "DOWNLOADS"), rows))
