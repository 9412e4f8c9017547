"""``framectl webhooks``: who is told of rollouts' events."""

from argparse import ArgumentParser, Namespace
from typing import Any

from framectl.client import Client
from framectl.errors import CommandFailed
from framectl.output import show, table


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``webhooks add``, ``list``, ``deliveries``, ``remove`` and ``test``."""
    commands = groups.add_parser("webhooks", help="who is told of rollouts' events").add_subparsers(
        dest="action", required=True
    )
    add = commands.add_parser("add", parents=[common], help="tell an address of every event, signed")
    add.add_argument("url", metavar="https://…")
    add.add_argument("--events", default="", metavar="paused,rolling_back", help="default: all")
    add.set_defaults(run=_add)
    listing = commands.add_parser("list", parents=[common], help="all webhooks")
    listing.set_defaults(run=_list)
    for name, meaning, run in (
        ("deliveries", "what it was told, newest first", _deliveries),
        ("remove", "tell it nothing any more", _remove),
        ("test", "send a test now", _test),
    ):
        one = commands.add_parser(name, parents=[common], help=meaning)
        one.add_argument("id", type=int)
        one.set_defaults(run=run)
        if name == "deliveries":
            one.add_argument("--limit", type=int, default=50)


def _add(arguments: Namespace) -> None:
    events = [event.strip() for event in arguments.events.split(",") if event.strip()]
    with Client.from_arguments(arguments) as client:
        made = client.post("webhooks/", {"url": arguments.url, "events": events})
    said = f"Webhook {made['id']} is told of {', '.join(made['events']) or 'every event'}.\n"
    said += f"Its signatures are made with this secret, which is not shown again: {made['secret']}\n"
    show(arguments, made, f"{said}Try it with `framectl webhooks test {made['id']}`.")


def _list(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        found = list(client.pages("webhooks/"))
    rows = [(one["id"], one["url"], ", ".join(one["events"]) or "all", _state(one), one["created_by"]) for one in found]
    show(arguments, found, lambda: table(("ID", "ADDRESS", "EVENTS", "STATE", "BY"), rows))


def _deliveries(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        found = list(client.pages(f"webhooks/{arguments.id}/deliveries/", at_most=arguments.limit))
    rows = [
        (
            one["id"],
            one["kind"],
            one["rollout"],
            one["state"],
            one["attempts"],
            one["last_status"],
            one["next_at"],
            one["last_error"],
        )
        for one in found
    ]
    headings = ("ID", "EVENT", "ROLLOUT", "STATE", "ATTEMPTS", "STATUS", "NEXT", "ERROR")
    show(arguments, found, lambda: table(headings, rows))


def _remove(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        client.delete(f"webhooks/{arguments.id}/")
    show(arguments, {"id": arguments.id, "removed": True}, f"Webhook {arguments.id} is told nothing any more.")


def _test(arguments: Namespace) -> None:
    with Client.from_arguments(arguments) as client:
        sent = client.post(f"webhooks/{arguments.id}/test/", {})
    if sent["state"] != "delivered":
        raise CommandFailed(f"Webhook {arguments.id} did not take the test: {sent['last_error']}")
    show(arguments, sent, f"Webhook {arguments.id} took the test: it answered {sent['last_status']}.")


def _state(webhook: dict[str, Any]) -> str:
    if not webhook["active"]:
        return "off"
    return f"failing since {webhook['failing_since']}" if webhook["failing_since"] else "on"
