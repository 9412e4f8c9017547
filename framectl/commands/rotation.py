"""``framectl keys rotate``, ``revoke``, ``renew``, ``status`` and ``drop``: whose keys count, and until when.

Each makes the next version of the documents concerned, unsigned; ``framectl keys sign`` collects the signatures (a root
needs those of the old keys and of the new ones), and ``framectl repository push-roles`` brings them to the server.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from securesystemslib.signer import Key

from framectl import documents as tuf
from framectl.client import Client
from framectl.errors import CommandFailed
from framectl.files import read_file
from framectl.offline import OfflineFolder
from framectl.output import show, table
from framectl.proposals import (
    ONLINE,
    Change,
    Proposal,
    change_keys,
    differences,
    find_key,
    holders,
    missing,
    online_changes,
    renewed,
    resigned,
    revocation,
)
from framectl.publickeys import label, read_public


def add_commands(commands: Any, common: ArgumentParser) -> None:
    """The sub-commands."""
    rotate = commands.add_parser("rotate", parents=[common], help="change the keys or the threshold of a role")
    rotate.add_argument("folder", type=Path, metavar="DIR")
    rotate.add_argument("--role", required=True, choices=(*tuf.KEY_ROLES, "online"))
    rotate.add_argument("--add", type=Path, action="append", default=[], metavar="X.pub")
    rotate.add_argument("--remove", action="append", default=[], metavar="KEY", help="a name, or a key id's beginning")
    rotate.add_argument("--threshold", type=int, metavar="N", help="how many must sign")
    add_online(rotate)
    rotate.set_defaults(run=_rotate)
    revoke = commands.add_parser("revoke", parents=[common], help="take a key out of every role")
    revoke.add_argument("folder", type=Path, metavar="DIR")
    revoke.add_argument("key", metavar="KEY", help="a name, or a key id's beginning")
    revoke.set_defaults(run=_revoke)
    renew = commands.add_parser("renew", parents=[common], help="the same documents with a year before them")
    renew.add_argument("folder", type=Path, metavar="DIR")
    renew.add_argument("--document", action="append", default=[], choices=tuf.ALL, help="default: all of them")
    renew.set_defaults(run=_renew)
    status = commands.add_parser("status", parents=[common], help="roles, keys, thresholds, missing signatures")
    status.add_argument("folder", type=Path, metavar="DIR")
    status.set_defaults(run=_status)
    drop = commands.add_parser("drop", parents=[common], help="give up what still collects signatures")
    drop.add_argument("folder", type=Path, metavar="DIR")
    drop.set_defaults(run=_drop)


def add_online(parser: ArgumentParser) -> None:
    """``--online FILE``."""
    parser.add_argument(
        "--online", type=Path, metavar="FILE", help="the answer of GET online-keys/ (default: ask the server)"
    )


def online_keys(arguments: Namespace) -> dict[str, Key]:
    """The server's public online keys, from ``--online`` or the server. Raises CommandFailed."""
    if arguments.online is not None:
        return tuf.online_keys(read_file(arguments.online))
    with Client.from_arguments(arguments) as client:
        return tuf.online_keys(msgspec.json.encode(client.get("online-keys/")))


def report(
    arguments: Namespace, folder: OfflineFolder, lines: Sequence[str], more: Mapping[str, object] | None = None
) -> None:
    """Print what was done, and what is still missing."""
    proposed = folder.proposal.documents if folder.proposal is not None else {}
    lacks = [str(need) for need in missing(proposed, folder.documents)]
    data = {
        "offline": str(folder.path),
        "proposed": {role: document.signed.version for role, document in proposed.items()},
        "missing": lacks,
        **(more or {}),
    }
    show(arguments, data, "\n".join([*lines, *(f"{lack}." for lack in lacks)]))


def _rotate(arguments: Namespace) -> None:
    with OfflineFolder.open(arguments.folder, complete=False) as folder:
        state = _state(folder)
        if arguments.role == "online":
            if arguments.add or arguments.remove or arguments.threshold:
                raise CommandFailed("Online keys come from the server (or --online FILE) and from nowhere else.")
            changes = online_changes(state, online_keys(arguments))
        else:
            added = tuple(read_public(path).named for path in arguments.add)
            removed = tuple(find_key(state, given).keyid for given in arguments.remove)
            if both := {key.keyid for key in added}.intersection(removed):
                names = " and ".join(f"{keyid[:8]}" for keyid in sorted(both))
                raise CommandFailed(f"{names} cannot be added and removed at once: name each key with one of the two.")
            if not added and not removed and arguments.threshold is None:
                raise CommandFailed("Nothing to change: give --add, --remove or --threshold.")
            changes = [Change(arguments.role, added, removed, arguments.threshold)]
        _propose(arguments, folder, changes)


def _revoke(arguments: Namespace) -> None:
    with OfflineFolder.open(arguments.folder, complete=False) as folder:
        state = _state(folder)
        _propose(arguments, folder, revocation(state, find_key(state, arguments.key).keyid))


def _propose(arguments: Namespace, folder: OfflineFolder, changes: Sequence[Change]) -> None:
    if not changes:
        raise CommandFailed("The documents say so already: nothing to change.")
    before = folder.proposal.documents if folder.proposal is not None else {}
    proposed = change_keys(folder.documents, before, changes, datetime.now(UTC))
    folder.propose(Proposal(proposed))
    _report_proposed(arguments, folder)


def _renew(arguments: Namespace) -> None:
    with OfflineFolder.open(arguments.folder) as folder:
        folder.refuse_open_proposal()
        now = datetime.now(UTC)
        proposed = renewed(folder.documents, arguments.document or tuf.ALL, now)
        folder.propose(Proposal(resigned(folder.documents, proposed, now)))
        _report_proposed(arguments, folder)


def _report_proposed(arguments: Namespace, folder: OfflineFolder) -> None:
    proposed = folder.proposal.documents if folder.proposal is not None else {}
    names = ", ".join(f"{role} {document.signed.version}" for role, document in proposed.items())
    changes = differences(folder.documents, proposed)
    lines = [f"To be signed with `framectl keys sign {folder.path}`: {names}.", *(f"{change}." for change in changes)]
    report(arguments, folder, lines, {"changes": changes})


def _status(arguments: Namespace) -> None:
    with OfflineFolder.open(arguments.folder, complete=False) as folder:
        state = folder.documents | (folder.proposal.documents if folder.proposal is not None else {})
        rows, data = [], {}
        for role in (*tuf.KEY_ROLES, *ONLINE):
            held = holders(state, role)
            names = ", ".join(label(key) for key in held.keys)
            rows.append((role, f"{held.threshold} of {len(held.keys)}", names))
            data[role] = {"threshold": held.threshold, "keys": {key.keyid: label(key) for key in held.keys}}
        ends = ", ".join(
            f"{role} {one.signed.version} until {one.signed.expires:%Y-%m-%d}" for role, one in folder.documents.items()
        )
        proposed = folder.proposal.documents if folder.proposal is not None else {}
        changes = differences(folder.documents, proposed)
        every = {
            keyid: label(key) for role in tuf.KEY_ROLES for key in holders(state, role).keys for keyid in [key.keyid]
        }
        lines = [
            table(("ROLE", "SIGN", "KEYS"), rows),
            table(("KEY", "KEY ID (compare by voice)"), sorted((name, keyid) for keyid, name in every.items())),
        ]
        lines += [f"In force: {ends}."] if ends else []
        lines += [f"To be signed: {change}." for change in changes]
        report(arguments, folder, lines, {"roles": data, "changes": changes})


def _drop(arguments: Namespace) -> None:
    with OfflineFolder.open(arguments.folder, complete=False) as folder:
        if folder.proposal is None:
            raise CommandFailed(f"Nothing in {arguments.folder} is waiting for signatures.")
        if not folder.documents:
            raise CommandFailed("These are the folder's first documents: delete the folder to begin anew.")
        folder.drop()
        report(arguments, folder, ["Given up; the folder's documents stay as they were."])


def _state(folder: OfflineFolder) -> tuf.Documents:
    """The documents as they will be: in force, or proposed. Raises CommandFailed while a release is open."""
    if folder.proposal is None:
        return folder.documents
    if folder.proposal.release is not None:
        folder.refuse_open_proposal()
    return folder.documents | folder.proposal.documents
