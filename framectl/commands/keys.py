"""``framectl keys``: keys, the offline folder's beginning, signatures. Changes of keys: ``framectl.commands.rotation``.

Only ``create``, ``ceremony``, ``online`` and ``rotate`` ever ask the server, for its public online keys, and not when
they are given as a file.
"""

import os
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from framectl import documents as tuf
from framectl import signers
from framectl.client import Client
from framectl.commands import rotation
from framectl.errors import CommandFailed
from framectl.files import write_file
from framectl.offline import OfflineFolder
from framectl.output import show
from framectl.proposals import Proposal, add_signatures, check_holders, differences, missing, refuse_tampered
from framectl.publickeys import PublicKey, check_name, label, read_public, write_public
from protocol.repository import DELEGATIONS, DIRECTOR_ROOT


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """All of ``keys``."""
    commands = groups.add_parser("keys", help="offline keys").add_subparsers(dest="action", required=True)
    create = commands.add_parser(
        "create", parents=[common], help="the simple start: one folder with a key per role and the first documents"
    )
    create.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder; never overwritten")
    rotation.add_online(create)
    create.set_defaults(run=_create)
    _add_new(commands, common)
    _add_ceremony(commands, common)
    sign = commands.add_parser("sign", parents=[common], help="sign first documents or changed keys with your key")
    sign.add_argument("folder", type=Path, metavar="DIR")
    sign.add_argument("--key", action="append", default=[], metavar="URI", help="default: the keys in the folder")
    sign.set_defaults(run=_sign)
    online = commands.add_parser("online", parents=[common], help="save the server's public online keys as a file")
    online.add_argument("--out", type=Path, required=True, metavar="FILE")
    online.set_defaults(run=_online)
    rotation.add_commands(commands, common)


def _add_new(commands: Any, common: ArgumentParser) -> None:
    new = commands.add_parser("new", parents=[common], help="make one person's key, or take a key service's")
    new.add_argument("--out", type=Path, required=True, metavar="FILE.pem", help="FILE.pub is written beside it")
    new.add_argument("--name", help="what people call the key (default: the file's name)")
    new.add_argument("--passphrase", action="store_true", help=f"encrypt the file (or set {signers.PASSPHRASE})")
    new.add_argument("--pkcs11", metavar="TOKEN", help="make the key on the token with this label; no FILE.pem then")
    new.add_argument("--id", type=int, default=2, help="the key's number on the token (default: 2)")
    new.add_argument("--uri", help="use the existing key file:..., hsm:..., pkcs11:... or awskms:...")
    new.set_defaults(run=_new)


def _add_ceremony(commands: Any, common: ArgumentParser) -> None:
    ceremony = commands.add_parser(
        "ceremony", parents=[common], help="a new folder whose first documents several people sign in turn"
    )
    ceremony.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder; never overwritten")
    for role, default in (("root", "required"), ("targets", "required"), (DIRECTOR_ROOT, "those of root")):
        ceremony.add_argument(
            f"--{role}-key", dest=f"{role}_keys", type=Path, action="append", default=[], metavar="X.pub",
            required=default == "required", help=f"one of the keys of {role} ({default})",
        )  # fmt: skip
        ceremony.add_argument(f"--{role}-threshold", dest=f"{role}_threshold", type=int, metavar="N")
    ceremony.add_argument(
        "--role-key", action="append", default=[], metavar="ROLE=X.pub",
        help=f"one of the keys of {', '.join(DELEGATIONS)} (default: those of targets)",
    )  # fmt: skip
    ceremony.add_argument("--role-threshold", action="append", default=[], metavar="ROLE=N")
    rotation.add_online(ceremony)
    ceremony.set_defaults(run=_ceremony)


def _create(arguments: Namespace) -> None:
    online = rotation.online_keys(arguments)
    folder = OfflineFolder.create(arguments.out, online, datetime.now(UTC))
    anchors = {role: str(folder.document_path(role)) for role in tuf.ROOTS}
    data = {
        "offline": str(arguments.out),
        "keys": list(tuf.KEY_ROLES),
        "anchors": anchors,
        "online": {name: key.keyid for name, key in online.items()},
    }
    names = "\n".join(f"  {name:<10} {key.keyid}" for name, key in online.items())
    show(
        arguments,
        data,
        f"{arguments.out}: keys for {', '.join(tuf.KEY_ROLES)}. Keep this folder offline, and a copy of it.\n"
        f"Frames are born with {anchors['root']} and {anchors['director-root']}.\n"
        f"Trusted online keys (compare them with the server's):\n{names}",
    )


def _new(arguments: Namespace) -> None:
    private = arguments.out
    public_path = private.with_suffix(".pub")
    name = check_name(arguments.name or private.stem)
    if private == public_path:
        raise CommandFailed(f"{private} is where the public key will be: name the private one FILE.pem.")
    if public_path.exists():
        raise CommandFailed(f"{public_path} exists already and keys are never overwritten: choose another name.")
    if arguments.pkcs11 and arguments.uri:
        raise CommandFailed("Give either --pkcs11, to make a key, or --uri, for one that exists.")
    if arguments.pkcs11:
        uri = signers.new_on_token(arguments.pkcs11, arguments.id, name)
        key = signers.import_public(uri)
    elif arguments.uri:
        uri, key = arguments.uri, signers.import_public(arguments.uri)
        if uri.startswith("file:"):  # from where the public key file lies
            uri = f"file:{os.path.relpath(uri.removeprefix('file:'), public_path.parent)}"
    else:
        passphrase = os.environ.get(signers.PASSPHRASE)
        if passphrase is None and arguments.passphrase:
            passphrase = _new_passphrase(private)
        uri, key = f"file:{private.name}", signers.new_file(private, passphrase)
    write_public(public_path, PublicKey(name, key, uri))
    show(
        arguments,
        {"name": name, "keyid": key.keyid, "uri": uri, "public": str(public_path)},
        f"{name}: key id {key.keyid}. Hand out {public_path}; compare the key id by voice. Private key: {uri}.",
    )


def _new_passphrase(path: Path) -> str:
    first = signers.secret(f"A passphrase for {path}", signers.PASSPHRASE)
    if not first or first != signers.secret("The same again", signers.PASSPHRASE):
        raise CommandFailed("The passphrase was empty, or not twice the same: nothing was made.")
    return first


def _ceremony(arguments: Namespace) -> None:
    given = vars(arguments)
    keys = {role: [read_public(path) for path in given[f"{role}_keys"]] for role in ("root", "targets", DIRECTOR_ROOT)}
    thresholds = {role: given[f"{role}_threshold"] for role in keys}
    for text in arguments.role_key:
        role, path = _of_delegation("--role-key", text)
        keys.setdefault(role, []).append(read_public(Path(path)))
    for text in arguments.role_threshold:
        role, number = _of_delegation("--role-threshold", text)
        if not number.isdigit():
            raise CommandFailed(f"{text!r} gives no threshold: write it as lora=2.")
        thresholds[role] = int(number)
    holders: dict[str, tuf.Holders] = {}
    for role in tuf.KEY_ROLES:
        like = "root" if role == DIRECTOR_ROOT else "targets"
        own = keys.get(role)
        threshold = thresholds.get(role) or (1 if own else thresholds.get(like)) or 1
        holders[role] = tuf.Holders(tuple(one.named for one in own or keys[like]), threshold)
        check_holders(role, holders[role])
    proposed = tuf.first_documents(holders, rotation.online_keys(arguments), datetime.now(UTC))
    folder = OfflineFolder.begin(arguments.out, Proposal(proposed))
    rotation.report(arguments, folder, [f"{arguments.out}: first documents, waiting for signatures."])


def _of_delegation(option: str, text: str) -> tuple[str, str]:
    role, _, value = text.partition("=")
    if role not in DELEGATIONS or not value:
        raise CommandFailed(f"{option} {text!r} names no role of {', '.join(DELEGATIONS)}: write it as lora=....")
    return role, value


def _sign(arguments: Namespace) -> None:
    with OfflineFolder.open(arguments.folder, complete=False) as folder:
        proposal = folder.proposal
        if proposal is None:
            raise CommandFailed(f"Nothing in {arguments.folder} is waiting for signatures.")
        if proposal.release is not None:
            raise CommandFailed(
                "A release is waiting for signatures: add yours with `framectl release sign --add PACKAGE.zip`."
            )
        refuse_tampered(folder.documents, proposal.documents, datetime.now(UTC))
        changes = differences(folder.documents, proposal.documents)
        done = add_signatures(proposal.documents, folder.documents, folder.signers(arguments.key))
        if not done:
            lacks = "; ".join(str(need) for need in missing(proposal.documents, folder.documents))
            raise CommandFailed(f"These keys have nothing to sign here: {lacks}.")
        folder.propose(proposal)
        complete = folder.settle()
        documents = folder.documents if complete else proposal.documents
        lines = [f"Signed {entry} (version {documents[entry.partition(' ')[0]].signed.version})." for entry in done]
        lines += [f"What changes: {change}." for change in changes]
        if complete:
            lines.append("Nothing is missing: these are the folder's newest documents now.")
        rotation.report(arguments, folder, lines, {"signed": done, "changes": changes})


def _online(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        text = msgspec.json.encode(client.get("online-keys/"))
    keys = tuf.online_keys(text)
    write_file(arguments.out, text)
    names = "\n".join(f"  {name:<10} {label(key)}" for name, key in keys.items())
    show(
        arguments,
        {"online": {name: key.keyid for name, key in keys.items()}, "file": str(arguments.out)},
        f"{arguments.out} has the server's online keys:\n{names}",
    )
