"""``framectl keys``: the offline folder's beginning."""

from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from framectl.client import Client
from framectl.documents import KEY_ROLES, ROOTS, online_keys
from framectl.offline import OfflineFolder, read_file
from framectl.output import show


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``keys create``."""
    commands = groups.add_parser("keys", help="offline keys").add_subparsers(dest="action", required=True)
    create = commands.add_parser(
        "create", parents=[common], help="make an offline folder: one key per role and the first documents"
    )
    create.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder; never overwritten")
    create.add_argument(
        "--online", type=Path, metavar="FILE", help="the answer of GET online-keys/ (default: ask the server)"
    )
    create.set_defaults(run=_create)


def _create(arguments: Namespace) -> None:
    if arguments.online is not None:
        text = read_file(arguments.online)
    else:
        with Client.from_arguments(arguments) as client:
            text = msgspec.json.encode(client.get("online-keys/"))
    online = online_keys(text)
    folder = OfflineFolder.create(arguments.out, online, datetime.now(UTC))
    anchors = {role: str(folder.document_path(role)) for role in ROOTS}
    data = {
        "offline": str(arguments.out),
        "keys": list(KEY_ROLES),
        "anchors": anchors,
        "online": {name: key.keyid for name, key in online.items()},
    }
    names = "\n".join(f"  {name:<10} {key.keyid}" for name, key in online.items())
    show(
        arguments,
        data,
        f"{arguments.out}: keys for {', '.join(KEY_ROLES)}. Keep this folder offline, and a copy of it.\n"
        f"Frames are born with {anchors['root']} and {anchors['director-root']}.\n"
        f"Trusted online keys (compare them with the server's):\n{names}",
    )
