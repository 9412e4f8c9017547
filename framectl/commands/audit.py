"""``framectl audit``: prove that nobody has changed the audit log."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from framectl.client import Client
from framectl.errors import CommandFailed
from framectl.output import printable, show, table
from protocol.audit import AuditHead, AuditRecord, BrokenChain, verify

MAX_HEADS_FILE = 64 * 1024 * 1024
SHOWN = 50


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``audit verify`` and ``audit list``."""
    commands = groups.add_parser("audit", help="the audit log").add_subparsers(dest="action", required=True)
    proof = commands.add_parser("verify", parents=[common], help="prove that no entry was changed, dropped or added")
    proof.add_argument(
        "--heads", type=Path, action="append", default=[], metavar="FILE",
        help="published heads to hold the log against (may be given again); heads this machine has seen always count",
    )  # fmt: skip
    proof.add_argument("--witness", type=Path, metavar="FILE", help="where this machine keeps the heads it has seen")
    proof.set_defaults(run=_verify)
    listing = commands.add_parser("list", parents=[common], help=f"the newest {SHOWN} entries")
    listing.set_defaults(run=_list)


def _verify(arguments: Namespace) -> None:
    witness = arguments.witness if arguments.witness is not None else _witness()
    seen = heads = _agreeing({}, witness, required=False)
    for path in arguments.heads:
        heads = _agreeing(heads, path, required=True)
    with Client.from_arguments(arguments) as client:
        try:
            head = verify(_records(client), heads)
        except BrokenChain as broken:
            raise CommandFailed(f"{broken} Keep the database as it is and find out who wrote to it.") from None
    if head is None:
        show(arguments, {"entries": 0}, "The audit log is empty.")
        return
    if head.number not in seen:
        _remember(witness, head)
    data = {"entries": head.number, "head": head.digest, "heads_compared": len(heads), "witness": str(witness)}
    text = (
        f"{head.number} entries form one unbroken chain; its head is {head.digest}.\n"
        f"{len(seen)} heads that this machine saw before and {len(heads) - len(seen)} others agree with it."
    )
    show(arguments, data, text)


def _list(arguments: Namespace) -> None:
    newest: list[AuditRecord] = []
    with Client.from_arguments(arguments) as client:
        for record in _records(client):
            newest = [*newest[-SHOWN + 1 :], record]
    rows = [(one.number, one.actor, one.action, one.subject, printable(one.detail)[:80]) for one in newest]
    show(
        arguments,
        msgspec.to_builtins(newest),
        lambda: table(("ENTRY", "WHO", "WHAT", "WHOM", "DETAIL"), rows),
    )


def _records(client: Client) -> Iterator[AuditRecord]:
    for item in client.pages("audit/"):
        try:
            yield msgspec.convert(item, AuditRecord)
        except msgspec.ValidationError as error:
            raise CommandFailed(f"The server's audit log cannot be read: {error}.") from None


def _witness() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "framefleet" / "audit-heads.jsonl"


def _agreeing(known: dict[int, str], path: Path, *, required: bool) -> dict[int, str]:
    """The heads in ``path``. Raises CommandFailed when it cannot be read or contradicts ``known`` ones."""
    try:
        if path.stat().st_size > MAX_HEADS_FILE:
            raise CommandFailed(f"{path} is too large for a file of heads: name the file that the server writes.")
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        if required:
            raise CommandFailed(f"{path} is not there: name a file of published heads.") from None
        return {}
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}.") from None
    found = dict(known)
    told = 0
    for number, line in enumerate(lines, start=1):
        try:
            head = msgspec.json.decode(line, type=AuditHead)
        except msgspec.DecodeError:
            continue  # cut off while it was written, by a power cut or by being read meanwhile
        told += 1
        if found.setdefault(head.number, head.digest) != head.digest:
            raise CommandFailed(
                f"Two heads of entry {head.number} contradict each other (see line {number} of {path}): "
                "the log was replaced."
            )
    if required and not told:  # a proof against nothing would read like a proof
        raise CommandFailed(f"{path} holds no head that can be read: name the file that the server writes.")
    return found


def _remember(path: Path, head: AuditHead) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(head) + b"\n")
