"""``framectl frames import, label, claim, replace, retire, revoke``: how frames come, change and leave."""

import csv
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from framectl import labels
from framectl.client import Client, existing_file
from framectl.errors import CommandFailed
from framectl.output import show

MAX_CSV = 16 * 1024 * 1024


def add_parsers(commands: Any, common: ArgumentParser) -> None:
    """The sub-commands of ``frames``."""
    into = commands.add_parser(
        "import",
        parents=[common],
        help="make frames known from a CSV (frame_id,household,locale,hardware and, if known, timezone,site)",
    )
    into.add_argument("csv", type=existing_file)
    into.add_argument("--claims", type=Path, required=True, metavar="OUT", help="CSV with their claims; keep it secret")
    into.add_argument("--days", type=int, help="how long the claims are good (default 90)")
    into.set_defaults(run=_import)
    label = commands.add_parser("label", parents=[common], help="labels from that file; needs no server")
    label.add_argument("id", nargs="?", help="one frame (default: all)")
    label.add_argument("--claims", type=existing_file, required=True)
    where = label.add_mutually_exclusive_group(required=True)
    where.add_argument("--svg", type=Path, metavar="FILE", help="the label: frame id, QR code, token in letters")
    where.add_argument("--png", type=Path, metavar="FILE", help="the QR code alone")
    where.add_argument("--dir", type=Path, help="DIR/<frame id>.svg for each")
    label.set_defaults(run=_label)
    for name, meaning in (
        ("claim", "a new claim for a frame that is not born yet or was revoked"),
        ("replace", "other hardware takes the id over: a new claim; the old certificates end at once"),
        ("retire", "the frame leaves for good; its history stays"),
        ("revoke", "certificates have fallen into wrong hands: end them at once"),
    ):
        command = commands.add_parser(name, parents=[common], help=meaning)
        command.add_argument("id")
        if name != "claim":
            command.add_argument("--reason", required=True)
        if name in ("claim", "replace"):
            command.add_argument("--days", type=int, help="how long the claim is good (default 90)")
        if name == "revoke":
            command.add_argument("--serial", help="this certificate alone (default: all of the frame)")
        command.set_defaults(run=_command, name=name)


def _import(arguments: Namespace) -> None:
    if arguments.csv.stat().st_size > MAX_CSV:
        raise CommandFailed(f"{arguments.csv} has more than {MAX_CSV} bytes: split it.")
    # First the file that will hold the tokens: they are told once.
    out = _create(arguments.claims)
    try:
        with out, Client.from_arguments(arguments) as client:
            claims = client.post_csv("claims/", arguments.csv.read_bytes(), days=arguments.days)["claims"]
            writer = csv.writer(out)
            writer.writerow(labels.COLUMNS)
            writer.writerows((claim["frame_id"], claim["token"], claim["url"] or "") for claim in claims)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        arguments.claims.unlink(missing_ok=True)
        raise
    show(
        arguments,
        {"frames": len(claims), "claims": str(arguments.claims)},
        f"Frames made known: {len(claims)}. Their claims are in {arguments.claims}: "
        f"print labels with `framectl frames label --claims {arguments.claims} --dir LABELS`, then delete it.",
    )


def _create(path: Path) -> Any:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", newline="", encoding="utf-8")
    except FileExistsError:
        raise CommandFailed(f"{path} is there already: it may hold claims, so name another file.") from None
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}.") from None


def _label(arguments: Namespace) -> None:
    count = 0
    for claim in labels.read_claims(arguments.claims):
        if arguments.id and claim.frame_id != arguments.id:
            continue
        count += 1
        if arguments.dir is None and count > 1:
            raise CommandFailed(f"{arguments.claims} has several frames: name one, or give --dir.")
        if arguments.dir is not None:
            _write(arguments.dir / f"{claim.frame_id}.svg", labels.svg(claim))
        elif arguments.svg is not None:
            _write(arguments.svg, labels.svg(claim))
        else:
            _write(arguments.png, labels.png(claim))
    if not count:
        raise CommandFailed(f"{arguments.claims} has no claim of {arguments.id or 'any frame'}.")
    show(arguments, {"labels": count}, f"Labels written: {count}.")


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}.") from None


def _command(arguments: Namespace) -> None:
    fields = ("reason", "days", "serial")
    body = {name: value for name in fields if (value := getattr(arguments, name, None)) is not None}
    with Client.from_arguments(arguments) as client:
        done = client.post(f"frames/{quote(arguments.id, safe='')}/{arguments.name}/", body)
    match arguments.name:
        case "retire":
            said = f"{arguments.id} is retired; its certificates are revoked."
        case "revoke":
            said = f"Certificates of {arguments.id} that are revoked now: {done['revoked']}."
        case _:
            claim = labels.Claim(done["frame_id"], done["token"], done["url"] or "")
            said = f"The claim of {claim.frame_id}, told this once: {' '.join(claim.groups)}\n{claim.url}".rstrip()
    show(arguments, done, said)
