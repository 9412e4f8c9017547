"""``framectl rollout``: start, watch, list, and the commands a person gives."""

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from itertools import pairwise
from typing import Any

from framectl.client import Client
from framectl.errors import CommandFailed
from framectl.output import Live, bar, printable, show, table
from framectl.signing import split_release

COMMANDS = {
    "approve": "let a rollout begin that somebody else proposed",
    "pause": "open no further stage",
    "resume": "go on",
    "advance": "open the next stage now",
    "abort": "stop offering; updated frames keep the release",
    "rollback": "stop offering and return updated frames to what they had",
}
ENDED = frozenset({"succeeded", "aborted", "rolled_back"})
FINISHED = frozenset({"committed", "failed", "reverted", "dark"})
MAX_STAGES = 20


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``rollout start``, ``watch``, ``list``, and one command per action."""
    commands = groups.add_parser("rollout", help="rollouts").add_subparsers(dest="action", required=True)
    start = commands.add_parser("start", parents=[common], help="take a release to a FrameGroup, stage by stage")
    start.add_argument("--release", required=True, metavar='"NAME VERSION"')
    start.add_argument("--group", required=True)
    start.add_argument("--stages", type=percentages, default=(5.0, 25.0, 100.0), metavar="5,25,100", help="per cent")
    start.add_argument("--reason", default="")
    start.add_argument(
        "--with-base-model", action="store_true", help="let frames that lack the release's base model fetch it"
    )
    start.set_defaults(run=_start)
    watch = commands.add_parser("watch", parents=[common], help="live progress until the rollout ends")
    watch.add_argument("id", type=int)
    watch.add_argument("--timeout", type=float, metavar="S", help="give up after this many seconds")
    watch.set_defaults(run=_watch)
    listing = commands.add_parser("list", parents=[common], help="all rollouts")
    listing.add_argument("--limit", type=int, default=50)
    listing.set_defaults(run=_list)
    for name, meaning in COMMANDS.items():
        command = commands.add_parser(name, parents=[common], help=meaning)
        command.add_argument("id", type=int)
        command.add_argument("--reason", default="")
        command.set_defaults(run=_command, name=name)


def percentages(text: str) -> tuple[float, ...]:
    """``5,25,100`` as ascending per cents that end at 100 or below. Raises ArgumentTypeError."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a list of per cents such as 5,25,100") from None
    ascending = all(before < after for before, after in pairwise(values))
    if not ascending or not all(0 < value <= 100 for value in values) or len(values) > MAX_STAGES:
        raise ArgumentTypeError(f"{text!r}: stages grow from above 0 to at most 100 per cent")
    return values


def stage_line(stage: dict[str, Any], number: int) -> str:
    """One stage as a line: share, bar, counts by Deployment state."""
    counts: dict[str, int] = stage["counts"]
    total = sum(counts.values())
    done = sum(count for state, count in counts.items() if state in FINISHED)
    share = f"{stage['share'] * 100:g} %"
    if stage["opened_at"] is None:
        return f"Stage {number}  {share:>6}  {bar(0, 1)}  not open yet, {total} {'frame' if total == 1 else 'frames'}"
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no frames"
    mark = "  complete" if stage["completed_at"] is not None else ""
    return f"Stage {number}  {share:>6}  {bar(done, total)}  {done} of {total}: {said}{mark}"


def watch_lines(rollout: dict[str, Any]) -> list[str]:
    """The whole rollout in a few lines."""
    reason = f": {printable(rollout['reason'])}" if rollout.get("reason") else ""
    head = f"Rollout {rollout['id']}: {rollout['release']} to {rollout['group']}, {rollout['state']}{reason}"
    lines = [printable(head), *(stage_line(stage, number) for number, stage in enumerate(rollout["stages"], start=1))]
    return [*lines, *(failure_line(failure) for failure in rollout.get("failures", []))]


def failure_line(failure: dict[str, Any]) -> str:
    """Frames that failed for one reason, with the sentence of one of them."""
    said = failure["examples"][0]["detail"] if failure["examples"] else ""
    return printable(f"  {failure['frames']} x {failure['reason']}: {said}")


def _start(arguments: Namespace) -> None:
    name, version = split_release(arguments.release)
    body = {
        "release": f"{name} {version}",
        "group": arguments.group,
        "stages": [value / 100 for value in arguments.stages],
        "reason": arguments.reason,
        "base_model": arguments.with_base_model,
    }
    with Client.from_arguments(arguments) as client:
        rollout = client.post("rollouts/", body)
    begun = "has started" if rollout["state"] == "running" else "waits for somebody else's `framectl rollout approve`"
    said = f"Rollout {rollout['id']} {begun}; follow it with `framectl rollout watch {rollout['id']}`."
    show(arguments, rollout, said)


def _watch(arguments: Namespace) -> None:
    live = Live(sys.stderr if getattr(arguments, "json", False) else sys.stdout)
    deadline = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    with Client.from_arguments(arguments) as client:
        for rollout in client.watch(f"rollouts/{arguments.id}/"):
            if rollout is not None:
                live.show(watch_lines(rollout))
                if rollout["state"] in ENDED:
                    break
            if deadline is not None and time.monotonic() > deadline:
                raise CommandFailed(
                    f"Rollout {arguments.id} has not ended within {arguments.timeout:g} s: watch again."
                )
    if getattr(arguments, "json", False):
        show(arguments, rollout, "")


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
