"""``framectl repository``: documents to the server, the newest ones back."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import msgspec

from framectl.client import Client
from framectl.documents import ALL, ROOTS
from framectl.errors import CommandFailed
from framectl.files import read_file
from framectl.offline import OfflineFolder
from framectl.output import show
from framectl.pull import newest, release_manifests
from protocol.limits import MAX_DOCUMENT


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``repository init``, ``push-roles`` and ``pull``."""
    commands = groups.add_parser("repository", help="the TUF repository").add_subparsers(dest="action", required=True)
    init = commands.add_parser("init", parents=[common], help="give a new server its first signed documents")
    push = commands.add_parser(
        "push-roles", parents=[common], help="give the server the folder's newer roots, targets and re-signed documents"
    )
    pull = commands.add_parser("pull", parents=[common], help="bring the newest verified documents into the folder")
    for command, run in ((init, _init), (push, _push_roles), (pull, _pull)):
        command.add_argument("--offline", type=Path, required=True, metavar="DIR")
        command.set_defaults(run=run)
    pull.add_argument(
        "--discard-unpushed", action="store_true", help="drop documents that were signed here but never pushed"
    )


def _init(arguments: Namespace) -> None:
    with OfflineFolder.open(arguments.offline) as folder, Client.from_arguments(arguments) as client:
        documents = {role: _newer(folder, role, 0) for role in ALL}
        client.post("repository/", {"documents": documents})
        versions = {role: document.signed.version for role, document in folder.documents.items()}
    show(arguments, {"server": client.server, "documents": versions}, f"{client.server} has its repository now.")


def _push_roles(arguments: Namespace) -> None:
    with OfflineFolder.open(arguments.offline) as folder, Client.from_arguments(arguments) as client:
        theirs = client.get("repository/")["documents"]
        if not theirs:
            raise CommandFailed("The server has no repository yet: run `framectl repository init` first.")
        newer: dict[str, Any] = {}
        for role in ALL:
            at = int(theirs[role]["signed"]["version"])
            if folder.documents[role].signed.version > at:
                newer[role] = _newer(folder, role, at)
        if newer:
            client.put("repository/", {"documents": newer})
    versions = {role: folder.documents[role].signed.version for role in newer}
    said = ", ".join(f"{role} {version}" for role, version in versions.items())
    show(
        arguments,
        {"server": client.server, "documents": versions},
        f"{client.server} has {said} now." if said else f"{client.server} has all of this folder's documents already.",
    )


def _newer(folder: OfflineFolder, role: str, at: int) -> Any:
    """The folder's document as JSON; of a root every version after ``at``: frames walk through them one by one."""
    ours = folder.documents[role]
    if role not in ROOTS:
        return msgspec.json.decode(ours.to_bytes())
    steps = [folder.root_path(role, version) for version in range(at + 1, ours.signed.version + 1)]
    return [msgspec.json.decode(read_file(path, MAX_DOCUMENT)) for path in steps]


def _pull(arguments: Namespace) -> None:
    with OfflineFolder.open(arguments.offline) as folder, Client.from_arguments(arguments) as client:
        answer = client.get("repository/")

        def root_of(role: str, version: int) -> bytes:
            return msgspec.json.encode(client.get(f"repository/{role}/{version}/"))

        changed, between = newest(folder, answer["documents"], root_of, discard_unpushed=arguments.discard_unpushed)
        manifests = release_manifests(folder, changed, client.bytes_of)
        if changed or manifests:
            folder.advance(changed, manifests | between)
    versions = {role: document.signed.version for role, document in changed.items()}
    said = ", ".join(f"{role} {version}" for role, version in versions.items()) or "nothing newer"
    show(
        arguments,
        {"documents": versions, "releases": sorted(path.stem for path in manifests)},
        f"Pulled {said}; {len(manifests)} release manifests added.",
    )
