"""``framectl rollout preview``: what would become of a plan, or of a draft."""

from argparse import ArgumentParser, Namespace
from typing import Any

from framectl.client import Client
from framectl.commands import rollout_plan
from framectl.errors import CommandFailed
from framectl.output import printable, show, table

INSTEAD = {
    "standard": "Use --policy standard instead.",
    "small-fleet": "Use --policy small-fleet instead.",
    "manual": "Let a person decide instead: --gate manual.",
}


def add_parser(commands: Any, common: ArgumentParser) -> None:
    """``rollout preview`` of a draft, or with the options of ``start``."""
    preview = commands.add_parser("preview", parents=[common], help="frames, exclusions and days to a verdict")
    preview.add_argument("id", type=int, nargs="?", help="a draft")
    rollout_plan.add_arguments(preview, required=False)
    preview.set_defaults(run=_preview)


def previewed(found: dict[str, Any]) -> str:
    """The preview for people."""
    arms = ", ".join(f"{frames} {arm}" for arm, frames in found["arms"].items() if frames)
    lines = [f"{found['release']} to {found['group']}: {found['frames']} frames in {found['households']} households"]
    lines[0] += f" ({arms})." if arms else "."
    if found.get("agent"):
        lines.append(f"It brings agent {found['agent']}.")
    if found["refused"]:
        lines.append(f"It would be refused: {found['refused']}")
    hours = {stage["number"]: stage for stage in (found["forecast"] or {}).get("stages", ())}
    rows = [_row(stage, hours.get(stage["number"])) for stage in found["stages"]]
    headings = ("STAGE", "SHARE", "FRAMES", "CANARY", "CONTROL", "GATE", "DWELL", "OPEN FOR", "WAITS FOR", "SUCH AS")
    lines = [printable(line) for line in lines]
    lines += ["", table(headings, rows), ""]
    for one in found["excluded"]:
        lines.append(printable(f"{one['frames']} left out ({one['code']}), such as: {one['sentence']}"))
    if found["no_stage"]:
        lines.append(f"{found['no_stage']} frames are in no stage.")
    if found["forecast"]:
        lines += forecast_lines(found["forecast"])
    return "\n".join([*lines, printable(found["note"])])


def forecast_lines(forecast: dict[str, Any]) -> list[str]:
    """When it can be expected to be decided, from the group's own past."""
    lines = []
    if forecast["hours_median"] is not None:
        lines.append(
            f"From {forecast['history_days']} days of history: a harmless release is through after "
            f"{_days(forecast['hours_median'])} (9 of 10: {_days(forecast['hours_high'])}); "
            f"{forecast['promoted']:.0%} of such rollouts are decided in time."
        )
    lines += [
        f"Clear harm in {harm['metric']} is rolled back in {harm['rolled_back']:.0%} of such rollouts, after "
        f"{_days(harm['hours_median'])}."
        for harm in forecast["harms"]
    ]
    if not forecast["enough"]:
        lines.append(f"Warning: {forecast['warning']} {INSTEAD.get(forecast['instead'] or '', '')}")
    return [printable(line.strip()) for line in lines]


def _row(stage: dict[str, Any], hours: dict[str, Any] | None) -> tuple[object, ...]:
    return (
        stage["number"],
        f"{stage['share'] * 100:g} %",
        stage["frames"],
        stage["canaries"],
        stage["controls"] or None,
        stage["gate"],
        f"{stage['dwell_h']:g} h" if stage["dwell_h"] else None,
        _days(hours["hours_median"]) if hours else None,
        hours["bottleneck"] if hours else None,
        ", ".join(stage["examples"][:2]),
    )


def _days(hours: float | None) -> str:
    return "longer than it lasts" if hours is None else f"{hours / 24:.1f} days"


def _preview(arguments: Namespace) -> None:
    if (arguments.id is None) == (arguments.release is None and arguments.group is None):
        raise CommandFailed("Give --release and --group, or the number of a draft.")
    if arguments.id is None and (arguments.release is None or arguments.group is None):
        raise CommandFailed("Give both --release and --group.")
    with Client.from_arguments(arguments) as client:
        if arguments.id is not None:
            found = client.get(f"rollouts/{arguments.id}/preview/")
        else:
            found = client.post("rollouts/preview/", rollout_plan.body_of(arguments, client))
    show(arguments, found, lambda: previewed(found))
