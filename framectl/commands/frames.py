"""``framectl frames``: what every frame says it runs, and who may speak in its name."""

from argparse import ArgumentParser, Namespace
from typing import Any
from urllib.parse import quote

from framectl.client import Client
from framectl.commands import births
from framectl.errors import CommandFailed
from framectl.output import printable, show, table
from framectl.signing import split_release

AT_ONCE = 10_000
"""Frames of one request."""
LIFECYCLE = {"awaited": "Not born yet: it waits for its claim", "retired": "Retired"}


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``frames [list]``, ``frames show ID``, ``frames place`` and what ``births`` adds."""
    top = groups.add_parser("frames", parents=[common], help="frames and what they run")
    _add_filters(top)
    commands = top.add_subparsers(dest="action")
    one = commands.add_parser("show", parents=[common], help="one frame")
    one.add_argument("id")
    one.set_defaults(run=_show)
    place = commands.add_parser("place", parents=[common], help="say in which time zone and at which site frames hang")
    place.add_argument("ids", nargs="*", metavar="ID")
    place.add_argument("--group", dest="of_group", help="all frames of this FrameGroup")
    place.add_argument("--timezone", help="IANA name, such as Asia/Shanghai; rollouts keep to the frame's own nights")
    place.add_argument("--site", help='the uplink they share; "" for each household\'s own')
    place.set_defaults(run=_place)
    pin = commands.add_parser("pin", parents=[common], help="no rollout touches this frame")
    pin.add_argument("id")
    pin.add_argument("--release", metavar='"NAME VERSION"', help="what it is to run; default: what it has")
    pin.add_argument("--reason", required=True)
    pin.set_defaults(run=_pin)
    unpin = commands.add_parser("unpin", parents=[common], help="rollouts may have it again")
    unpin.add_argument("id")
    unpin.add_argument("--reason", default="")
    unpin.set_defaults(run=_unpin)
    drift = commands.add_parser("drift", parents=[common], help="frames that run something else than they should")
    drift.add_argument("--limit", type=int, default=100)
    drift.set_defaults(run=_drift)
    births.add_parsers(commands, common)


def _add_filters(parser: ArgumentParser) -> None:
    parser.add_argument("--group", help="frames of this FrameGroup")
    parser.add_argument("--locale")
    parser.add_argument("--release", metavar='"NAME VERSION"', help="frames that run this release")
    parser.add_argument(
        "--lifecycle", choices=("awaited", "active", "retired"), help="default: all that are not retired"
    )
    parser.add_argument("--limit", type=int, default=100)
    parser.set_defaults(run=_list)


def _list(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        names = release_names(client)
        digest = None
        if arguments.release:
            name, version = split_release(arguments.release)
            digest = client.get(f"releases/{name}/{version}/")["digest"]
        wanted = {
            "group": arguments.group,
            "locale": arguments.locale,
            "release": digest,
            "lifecycle": arguments.lifecycle,
        }
        found = list(client.pages("frames/", at_most=arguments.limit, **wanted))
    for frame in found:
        frame["release_name"] = release_name(frame, names)
    rows = [
        (frame["id"], frame["locale"], frame["hardware"], frame["release_name"], frame["state"], _failure(frame))
        for frame in found
    ]
    show(arguments, found, lambda: table(("FRAME", "LOCALE", "HARDWARE", "RELEASE", "STATE", "FAILURE"), rows))


def _show(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        frame = client.get(f"frames/{quote(arguments.id, safe='')}/")
        frame["release_name"] = release_name(frame, release_names(client))
    show(arguments, frame, lambda: described(frame))


def _place(arguments: Namespace) -> None:
    if bool(arguments.ids) == bool(arguments.of_group):
        raise CommandFailed("Name either frames or --group.")
    changed = {name: getattr(arguments, name) for name in ("timezone", "site") if getattr(arguments, name) is not None}
    with Client.from_arguments(arguments) as client:
        ids = arguments.ids or [frame["id"] for frame in client.pages("frames/", group=arguments.of_group)]
        if not ids:
            raise CommandFailed(f"There is no frame in {arguments.of_group}: nothing was changed.")
        done = [
            client.put("places/", {"frames": ids[at : at + AT_ONCE], **changed}) for at in range(0, len(ids), AT_ONCE)
        ]
    count = sum(one["frames"] for one in done)
    show(arguments, {"frames": count, **changed}, f"Frames placed: {count}.")


def _pin(arguments: Namespace) -> None:
    body = {"reason": arguments.reason}
    if arguments.release:
        body["release"] = " ".join(split_release(arguments.release))
    with Client.from_arguments(arguments) as client:
        made = client.post(f"frames/{quote(arguments.id, safe='')}/pin/", body)
    show(arguments, made, f"Frame {arguments.id} keeps {made['release'] or 'what it has'}: no rollout touches it.")


def _unpin(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        client.delete(f"frames/{quote(arguments.id, safe='')}/pin/", {"reason": arguments.reason})
    show(arguments, {"frame_id": arguments.id, "pin": None}, f"Rollouts may have frame {arguments.id} again.")


def _drift(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        names = release_names(client)
        found = list(client.pages("drift/", at_most=arguments.limit))
    rows = [
        (
            frame["frame_id"],
            names.get(frame["desired"] or "", frame["desired"]),
            names.get(frame["reported"] or "", frame["reported"]),
            frame["state"],
        )
        for frame in found
    ]
    show(arguments, found, lambda: table(("FRAME", "SHOULD RUN", "RUNS", "STATE"), rows))


def release_names(client: Client) -> dict[str, str]:
    """Digest -> "name version" of all releases on the server."""
    return {release["digest"]: f"{release['name']} {release['version']}" for release in client.pages("releases/")}


def release_name(frame: dict[str, Any], names: dict[str, str]) -> str | None:
    """The release the frame says it runs, by name; its digest where the server does not know it; None for none."""
    digest = frame["release"]
    return None if digest is None else names.get(digest, digest[:12])


def described(frame: dict[str, Any]) -> str:
    """One frame for people."""
    simulated = ", simulated" if frame["simulated"] else ""
    lines = [
        f"{frame['id']} ({frame['hardware']}, {frame['locale']}{simulated})",
        f"Runs {frame['release_name'] or 'no release'}; {frame['state'] or 'has not reported yet'}",
        f"Hangs in {frame['timezone']}, {'at ' + frame['site'] if frame['site'] else 'with an uplink of its own'}",
        f"Last seen {frame['last_seen'] or 'never'}, agent {frame['agent_version'] or 'unknown'}",
    ]
    if frame["lifecycle"] != "active":
        lines.append(LIFECYCLE[frame["lifecycle"]])
    if failure := _failure(frame):
        lines.append(f"Failure: {failure}")
    if errors := frame["lip_errors"]:
        segments = [
            (row["segment"], _mm(row["lip_mm"]), _mm(row["mean_pose_mm"]), _mm(row["limit_mm"])) for row in errors
        ]
        lines += ["", table(("SEGMENT", "LIP ERROR", "MEAN POSE", "LIMIT"), segments)]
    if held := frame.get("identity", {}).get("certificates"):
        rows = [(row["serial"], row["state"], row["issued_at"], row["good_until"]) for row in held]
        lines += ["", table(("CERTIFICATE", "STATE", "ISSUED", "GOOD UNTIL"), rows)]
    if events := frame.get("health_events"):
        lines += ["", table(("AT", "KIND", "DETAIL"), [(row["at"], row["kind"], row["detail"]) for row in events])]
    return "\n".join(line if "\n" in line else printable(line) for line in lines)


def _failure(frame: dict[str, Any]) -> str | None:
    failure = frame["failure"]
    return None if failure is None else f"{failure['reason']}: {failure['detail']}"


def _mm(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f} mm"
