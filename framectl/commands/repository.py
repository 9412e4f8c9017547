"""``framectl repository``: the first documents to the server, the newest ones back."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import msgspec

from framectl.client import Client
from framectl.documents import ROOTS, TARGETS_ROLES
from framectl.offline import OfflineFolder
from framectl.output import show
from framectl.pull import newest, release_manifests


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``repository init`` and ``repository pull``."""
    commands = groups.add_parser("repository", help="the TUF repository").add_subparsers(dest="action", required=True)
    init = commands.add_parser("init", parents=[common], help="give a new server its first signed documents")
    init.add_argument("--offline", type=Path, required=True, metavar="DIR")
    init.set_defaults(run=_init)
    pull = commands.add_parser("pull", parents=[common], help="bring the newest verified documents into the folder")
    pull.add_argument("--offline", type=Path, required=True, metavar="DIR")
    pull.add_argument(
        "--discard-unpushed", action="store_true", help="drop documents that were signed here but never pushed"
    )
    pull.set_defaults(run=_pull)


def _init(arguments: Namespace) -> None:
    with OfflineFolder.open(arguments.offline) as folder, Client.from_arguments(arguments) as client:
        documents = {role: msgspec.json.decode(folder.documents[role].to_bytes()) for role in (*ROOTS, *TARGETS_ROLES)}
        client.post("repository/", {"documents": documents})
    versions = {role: document["signed"]["version"] for role, document in documents.items()}
    show(arguments, {"server": client.server, "documents": versions}, f"{client.server} has its repository now.")


def _pull(arguments: Namespace) -> None:
    with OfflineFolder.open(arguments.offline) as folder, Client.from_arguments(arguments) as client:
        answer = client.get("repository/")
        changed = newest(folder, answer["documents"], discard_unpushed=arguments.discard_unpushed)
        manifests = release_manifests(folder, changed, client.bytes_of)
        if changed or manifests:
            folder.advance(changed, manifests)
    versions = {role: document.signed.version for role, document in changed.items()}
    said = ", ".join(f"{role} {version}" for role, version in versions.items()) or "nothing newer"
    show(
        arguments,
        {"documents": versions, "releases": sorted(path.stem for path in manifests)},
        f"Pulled {said}; {len(manifests)} release manifests added.",
    )
