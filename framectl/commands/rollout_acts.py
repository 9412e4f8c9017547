"""``framectl rollout explain``, ``comment``, ``freeze`` and ``lift``."""

from argparse import ArgumentParser, Namespace
from typing import Any
from urllib.parse import quote

from framectl.client import Client
from framectl.errors import CommandFailed
from framectl.output import printable, show, table


def add_parsers(commands: Any, common: ArgumentParser) -> None:
    """What people do beside steering a rollout."""
    explain = commands.add_parser("explain", parents=[common], help="why a frame has the release, or not")
    explain.add_argument("id", type=int)
    explain.add_argument("frame")
    explain.set_defaults(run=_explain)
    comment = commands.add_parser("comment", parents=[common], help="leave a word in the rollout's trail")
    comment.add_argument("id", type=int)
    comment.add_argument("text")
    comment.add_argument("--acknowledge", action="store_true", help="say that you have seen the newest verdict")
    comment.set_defaults(run=_comment)
    freeze = commands.add_parser("freeze", parents=[common], help="offer nothing to anybody from now on")
    freeze.add_argument("--reason", required=True)
    freeze.set_defaults(run=_freeze)
    lift = commands.add_parser("lift", parents=[common], help="end the freeze")
    lift.add_argument("--reason", default="")
    lift.set_defaults(run=_lift)


def explained(found: dict[str, Any]) -> str:
    """Why, and what is known of the frame."""
    standing, here = found["standing"], found["deployment"]
    lines = [
        found["sentence"],
        f"It should run {standing['desired'] or 'nothing yet'} and says that it runs "
        f"{standing['reported'] or 'nothing'} ({standing['state'] or 'never reported'}).",
    ]
    if standing["drifted"]:
        lines.append("These differ.")
    if here is not None:
        stage = f"stage {here['stage']}" if here["stage"] is not None else "no stage"
        lines.append(
            f"In rollout {found['rollout']}: {here['arm']}, {stage}, {here['state']}, {here['attempts']} offers."
        )
        moments = ("offered_at", "committed_at", "dark_at", "returned_at")
        lines += [f"  {name.removesuffix('_at')} at {here[name]}" for name in moments if here[name]]
    if pin := standing["pin"]:
        lines.append(f"Pinned to {pin['release'] or 'what it has'} by {pin['by']}: {pin['reason']}")
    columns = ("rollout", "release", "rollout_state", "arm", "stage", "state", "reason")
    rows = [[row[column] for column in columns] for row in standing["deployments"]]
    text = "\n".join(printable(line) for line in lines)
    headings = ("ROLLOUT", "RELEASE", "STATE", "ARM", "STAGE", "FRAME", "REASON")
    return f"{text}\n\n{table(headings, rows)}" if rows else text


def _explain(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        found = client.get(f"rollouts/{arguments.id}/explain/{quote(arguments.frame, safe='')}/")
    show(arguments, found, lambda: explained(found))


def _comment(arguments: Namespace) -> None:
    if not arguments.text.strip():
        raise CommandFailed("Say something: a comment is a text.")
    with Client.from_arguments(arguments) as client:
        body = {"text": arguments.text, "acknowledge": arguments.acknowledge}
        event = client.post(f"rollouts/{arguments.id}/comment/", body)
    show(arguments, event, f"Rollout {arguments.id} keeps your words.")


def _freeze(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        found = client.post("rollouts/freeze/", {"reason": arguments.reason})
    show(arguments, found, "Rollouts are frozen: nothing is offered until `framectl rollout lift`.")


def _lift(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        found = client.post("rollouts/lift/", {"reason": arguments.reason})
    show(arguments, found, "Rollouts go on.")
