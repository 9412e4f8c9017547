"""``framectl release``: sign offline, push, list."""

import base64
import sys
import time
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from framectl.client import Client, NotFound, existing_file, upload
from framectl.cosigning import cosign
from framectl.errors import CommandFailed
from framectl.offline import OfflineFolder
from framectl.output import Live, bar, show, table
from framectl.package import Package
from framectl.signing import ReleaseRequest, runtime_range, sign_release, split_release, summary


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``release sign``, ``push`` and ``list``."""
    commands = groups.add_parser("release", help="releases").add_subparsers(dest="action", required=True)
    _add_sign(commands, common)
    push = commands.add_parser("push", parents=[common], help="upload a package and wait until it is published")
    push.add_argument("package", type=existing_file, metavar="PACKAGE.zip")
    push.add_argument("--timeout", type=float, default=600.0, metavar="S", help="seconds to wait for publication")
    push.set_defaults(run=_push)
    listing = commands.add_parser("list", parents=[common], help="releases on the server")
    listing.set_defaults(run=_list)


def _add_sign(commands: Any, common: ArgumentParser) -> None:
    sign = commands.add_parser("sign", parents=[common], help="sign a release into a package, without any network")
    sign.add_argument("--offline", type=Path, required=True, metavar="DIR", help="the offline folder")
    sign.add_argument("--add", type=existing_file, metavar="PACKAGE.zip", help="add signatures to this package instead")
    sign.add_argument(
        "--key", action="append", default=[], metavar="URI", help="file:, pkcs11:, awskms:, ... or a .pub file "
        "(default: the keys in the offline folder)"
    )  # fmt: skip
    sign.add_argument("--name")
    sign.add_argument("--version")
    base = sign.add_mutually_exclusive_group()
    base.add_argument("--base-model", type=existing_file, metavar="FILE", help="a bundle")
    base.add_argument("--base-release", metavar='"NAME VERSION"', help="the release that brought the base model")
    sign.add_argument("--adapter", type=existing_file, action="append", default=[], metavar="FILE")
    sign.add_argument(
        "--agent", type=existing_file, metavar="FILE", help="an agent file (framectl agent pack) that frames install "
        "with the rest; default: none, and frames keep the agent they run, also one that --base-release brought"
    )  # fmt: skip
    sign.add_argument("--hardware", action="append", default=[], help="hardware it runs on (default: any)")
    sign.add_argument(
        "--runtime", action="append", default=[], metavar="'rknn>=2.3,<3'", help="versions of a runtime it runs on "
        "(may be given again; default: any)"
    )  # fmt: skip
    sign.add_argument(
        "--min-agent", default="0", metavar="VERSION", help="the agent that base model and adapter need; with --agent, "
        "at most the version it brings"
    )  # fmt: skip
    sign.add_argument("--notes", default="")
    sign.add_argument(
        "--security-epoch", type=int, metavar="N", help="frames that commit this release accept no smaller epoch "
        "afterwards (default: the highest one signed in this folder)"
    )  # fmt: skip
    sign.add_argument("--out", type=Path, metavar="FILE.zip")
    sign.set_defaults(run=_sign)


def _sign(arguments: Namespace) -> None:
    if arguments.add is not None:
        given = (arguments.name, arguments.version, arguments.out, arguments.base_model, arguments.base_release)
        if any(given) or arguments.adapter or arguments.agent is not None or arguments.security_epoch is not None:
            raise CommandFailed("--add takes the package as it is: give only --offline and --key with it.")
        with OfflineFolder.open(arguments.offline) as folder:
            signed = cosign(folder, arguments.add, arguments.key, datetime.now(UTC))
    else:
        with OfflineFolder.open(arguments.offline) as folder:
            signed = sign_release(folder, _request(arguments), arguments.out, datetime.now(UTC))
    roles = ", ".join(f"{role} {version}" for role, version in signed.versions.items())
    lines = [f"Signed {signed.name} {signed.version} ({signed.digest[:12]}) as {signed.package}; documents: {roles}."]
    lines += [f"It brings agent {signed.agent}."] if signed.agent is not None else []
    lines += [f"Incomplete. {lack}." for lack in signed.missing]
    show(arguments, summary(signed), "\n".join(lines))


def _request(arguments: Namespace) -> ReleaseRequest:
    wanted = {"--name": arguments.name, "--version": arguments.version, "--out": arguments.out}
    wanted["--base-model or --base-release"] = arguments.base_model or arguments.base_release
    if lacking := [name for name, value in wanted.items() if value is None]:
        raise CommandFailed(f"A new release also needs {', '.join(lacking)}.")
    return ReleaseRequest(
        name=arguments.name,
        version=arguments.version,
        base_model=arguments.base_model,
        base_release=split_release(arguments.base_release) if arguments.base_release else None,
        adapters=tuple(arguments.adapter),
        agent=arguments.agent,
        notes=arguments.notes,
        hardware=tuple(arguments.hardware),
        min_agent=arguments.min_agent,
        runtimes=tuple(runtime_range(text) for text in arguments.runtime),
        security_epoch=arguments.security_epoch,
        keys=tuple(arguments.key),
    )


def _push(arguments: Namespace) -> None:
    live = Live(sys.stderr)
    with Package.open(arguments.package) as package, Client.from_arguments(arguments) as client:
        if package.missing:
            raise CommandFailed(f"{'; '.join(package.missing)}: add them with `framectl release sign --add`.")
        package.verify_artifacts()
        manifest = package.manifest
        address = f"releases/{manifest.name}/{manifest.version}/"
        is_there = _already_there(client, address, package)
        # Also when the release is there: a server that has lost a file gets it back.
        for number, sha256 in enumerate(package.artifacts, start=1):
            sent = upload(client, package, sha256)
            live.show(
                [f"{'Uploaded' if sent else 'Already there:'} {sha256[:12]} ({number} of {len(package.artifacts)})"]
            )
        if not is_there:
            client.post(
                "releases/",
                {"manifest": base64.b64encode(package.manifest_bytes).decode(), "documents": package.documents},
            )
        release = _wait_published(client, address, live, arguments.timeout)
    show(arguments, release, f"{manifest.name} {manifest.version} is published ({package.digest[:12]}).")


def _already_there(client: Client, address: str, package: Package) -> bool:
    """Whether an earlier push came this far."""
    try:
        release = client.get(address)
    except NotFound:
        return False
    if release["digest"] != package.digest:
        raise CommandFailed(
            f"The server has another {release['name']} {release['version']} ({release['digest'][:12]}): "
            "releases never change, so sign this one under a new version."
        )
    return True


def _wait_published(client: Client, address: str, live: Live, timeout_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    for release in client.watch(address):
        if release is not None:
            published, total = release["publication"]["published"], release["publication"]["total"]
            live.show([f"Publishing {bar(published, total)} {published} of {total} messages"])
            if release["published_at"] is not None:
                return dict(release)
        if time.monotonic() > deadline:
            break
    raise CommandFailed(
        f"The release was not published within {timeout_s:.0f} s: see that the bridge and the broker run; "
        "pushing again goes on where this stopped."
    )


def _list(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        releases = list(client.pages("releases/"))
    rows = [
        (
            f"{release['name']} {release['version']}",
            release["digest"][:12],
            len(release["artifacts"]),
            next((one.get("version") for one in release["artifacts"] if one["kind"] == "agent"), None),
            "yes" if release["published_at"] else "no",
            release["notes"],
        )
        for release in releases
    ]
    show(arguments, releases, lambda: table(("RELEASE", "DIGEST", "ARTIFACTS", "AGENT", "PUBLISHED", "NOTES"), rows))
