"""``framectl rollout``: start, watch, list, and the commands a person gives."""

from argparse import ArgumentParser, Namespace
from typing import Any

from framectl.client import Client
from framectl.commands import rollout_acts, rollout_plan, rollout_preview, rollout_watch
from framectl.errors import CommandFailed
from framectl.output import show, table

COMMANDS = {
    "approve": "let a rollout begin that somebody else proposed",
    "pause": "open no further stage",
    "resume": "go on",
    "advance": "open the next stage now",
    "abort": "stop offering; updated frames keep the release",
    "rollback": "stop offering and return updated frames to what they had",
}


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``rollout start``, ``watch``, ``list``, and one command per action."""
    commands = groups.add_parser("rollout", help="rollouts").add_subparsers(dest="action", required=True)
    start = commands.add_parser("start", parents=[common], help="take a release to a FrameGroup, or begin a draft")
    start.add_argument("id", type=int, nargs="?", help="a draft; everything else is in it")
    rollout_plan.add_arguments(start, required=False)
    start.add_argument("--reason", default="")
    start.set_defaults(run=_start)
    draft = commands.add_parser("draft", parents=[common], help="keep a plan: nothing is offered")
    rollout_plan.add_arguments(draft)
    draft.add_argument("--reason", default="")
    draft.set_defaults(run=_draft)
    rollout_preview.add_parser(commands, common)
    watch = commands.add_parser("watch", parents=[common], help="live progress until the rollout ends")
    watch.add_argument("id", type=int)
    watch.add_argument("--timeout", type=float, metavar="S", help="give up after this many seconds")
    watch.set_defaults(run=rollout_watch.watch)
    listing = commands.add_parser("list", parents=[common], help="all rollouts")
    listing.add_argument("--limit", type=int, default=50)
    listing.set_defaults(run=_list)
    for name, meaning in COMMANDS.items():
        command = commands.add_parser(name, parents=[common], help=meaning)
        command.add_argument("id", type=int)
        command.add_argument("--reason", default="")
        command.set_defaults(run=_command, name=name)
    rollout_acts.add_parsers(commands, common)


def _start(arguments: Namespace) -> None:
    if arguments.id is not None:
        _begin_draft(arguments)
        return
    if arguments.release is None or arguments.group is None:
        raise CommandFailed("Give --release and --group, or the number of a draft.")
    with Client.from_arguments(arguments) as client:
        body = rollout_plan.body_of(arguments, client) | {"reason": arguments.reason}
        rollout = client.post("rollouts/", body)
    show(arguments, rollout, _begun(rollout))


def _begin_draft(arguments: Namespace) -> None:
    if arguments.release is not None or arguments.group is not None:
        raise CommandFailed("A draft has its release and its group already: give its number and a reason alone.")
    with Client.from_arguments(arguments) as client:
        seen = client.get(f"rollouts/{arguments.id}/")
        body = {"seen_state": seen["seen_state"], "reason": arguments.reason}
        rollout = client.post(f"rollouts/{arguments.id}/start/", body)
    show(arguments, rollout, _begun(rollout))


def _begun(rollout: dict[str, Any]) -> str:
    begun = {
        "running": "has started",
        "scheduled": "begins at its hour",
        "proposed": "waits for somebody else's `framectl rollout approve`",
    }.get(rollout["state"], f"is {rollout['state']}")
    return f"Rollout {rollout['id']} {begun}; follow it with `framectl rollout watch {rollout['id']}`."


def _draft(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        body = rollout_plan.body_of(arguments, client) | {"reason": arguments.reason, "draft": True}
        rollout = client.post("rollouts/", body)
    said = f"Rollout {rollout['id']} is a draft: look at it with `framectl rollout preview {rollout['id']}`, begin it "
    show(arguments, rollout, f"{said}with `framectl rollout start {rollout['id']}`.")


def _list(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        rollouts = list(client.pages("rollouts/", at_most=arguments.limit))
    rows = [
        (rollout["id"], rollout["release"], rollout["group"], rollout["state"], rollout["created_at"])
        for rollout in rollouts
    ]
    show(arguments, rollouts, lambda: table(("ID", "RELEASE", "GROUP", "STATE", "STARTED"), rows))


def _command(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        seen = client.get(f"rollouts/{arguments.id}/")
        body = {"seen_state": seen["seen_state"], "reason": arguments.reason}
        rollout = client.post(f"rollouts/{arguments.id}/{arguments.name}/", body)
    show(arguments, rollout, f"Rollout {arguments.id} was {seen['state']}, now is {rollout['state']}.")
