"""``framectl tokens``: API tokens."""

from argparse import ArgumentParser, Namespace
from typing import Any

from framectl.client import Client
from framectl.errors import CommandFailed
from framectl.output import show, table

SCOPES = ("read", "operate", "release", "admin")
DAYS = 90


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``tokens list``, ``tokens create NAME`` and ``tokens revoke NAME``."""
    commands = groups.add_parser("tokens", help="API tokens").add_subparsers(dest="action", required=True)
    listing = commands.add_parser("list", parents=[common], help="your tokens; an admin's list is everybody's")
    listing.set_defaults(run=_list)
    create = commands.add_parser("create", parents=[common], help="make a token and print it, once")
    create.add_argument("name")
    create.add_argument("--scope", choices=SCOPES, default="read", help="what it may do at most (default: read)")
    ends = create.add_mutually_exclusive_group()
    ends.add_argument("--days", type=int, default=DAYS, help=f"how long it works (default: {DAYS})")
    ends.add_argument("--never", action="store_true", help="it never ends")
    create.set_defaults(run=_create)
    revoke = commands.add_parser("revoke", parents=[common], help="end a token")
    revoke.add_argument("name")
    revoke.add_argument("--user", help="whose, where several users have a token of this name")
    revoke.set_defaults(run=_revoke)


def _list(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        found = list(client.pages("tokens/"))
    rows = [
        (row["name"], row["user"], row["scope"], row["expires_at"] or "never", row["last_used_at"]) for row in found
    ]
    show(arguments, found, lambda: table(("TOKEN", "USER", "SCOPE", "ENDS", "LAST USED"), rows))


def _create(arguments: Namespace) -> None:
    days = None if arguments.never else arguments.days
    with Client.from_arguments(arguments) as client:
        made = client.post("tokens/", {"name": arguments.name, "scope": arguments.scope, "days": days})
    show(arguments, made, made["token"])


def _revoke(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        named = [row for row in client.pages("tokens/") if row["name"] == arguments.name]
        found = [row for row in named if arguments.user in (None, row["user"])]
        if not found:
            raise CommandFailed(f"There is no such token {arguments.name!r}: see framectl tokens list.")
        if len(found) > 1:
            users = ", ".join(row["user"] for row in found)
            raise CommandFailed(f"Several users have a token {arguments.name!r}: add --user with one of {users}.")
        client.delete(f"tokens/{found[0]['id']}/")
    show(arguments, found[0], f"Revoked {arguments.name} of {found[0]['user']}: it opens nothing any more.")
