"""A rollout in a few lines: its stages, what it waits for, the verdict and what the verdict rests on."""

import math
import sys
import time
from argparse import Namespace
from typing import Any

from framectl.client import Client
from framectl.errors import CommandFailed
from framectl.output import Live, bar, printable, show

ENDED = frozenset({"succeeded", "aborted", "rolled_back"})
FINISHED = frozenset({"committed", "failed", "reverted", "dark", "returned"})
STANDINGS = {
    "harm": "harm is shown",
    "harmless": "harmless is shown",
    "not_enough": "not enough evidence",
    "watched": "watched",
    "nothing_yet": "nothing to say yet",
}


def watch(arguments: Namespace) -> None:
    """Show the rollout until it ends."""
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


def watch_lines(rollout: dict[str, Any]) -> list[str]:
    """The whole rollout in a few lines."""
    reason = f": {printable(rollout['reason'])}" if rollout.get("reason") else ""
    head = f"Rollout {rollout['id']}: {rollout['release']} to {rollout['group']}, {rollout['state']}{reason}"
    lines = [printable(head), *(stage_line(stage, number) for number, stage in enumerate(rollout["stages"], start=1))]
    if waiting := rollout.get("waiting"):
        lines.append(printable(f"Waits    {waiting['sentence']}"))
    if verdict := rollout.get("verdict"):
        lines += verdict_lines(verdict)
    lines += [failure_line(failure) for failure in rollout.get("failures", [])]
    if stranded := (rollout.get("stranded") or {}).get("frames"):
        some = ", ".join(rollout["stranded"]["examples"])
        lines.append(printable(f"  {stranded} cannot go back, for nobody knows what they ran before: {some}"))
    if drifted := (rollout.get("drift") or {}).get("frames"):
        some = ", ".join(frame["frame_id"] for frame in rollout["drift"]["examples"])
        lines.append(printable(f"  {drifted} run something else than they should: {some}"))
    return lines


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


def verdict_lines(verdict: dict[str, Any]) -> list[str]:
    """The verdict's sentence, each metric's evidence, and whether the fix helped."""
    harm, needed = f"{verdict['evidence']:.3g}", f"{verdict['needed']:.3g}"
    head = f"Verdict  {verdict['sentence']} Evidence of harm in all: {harm}, where {needed} is enough."
    lines = [printable(head), *(metric_line(metric, needed) for metric in verdict["metrics"])]
    return [*lines, *(benefit_line(benefit) for benefit in verdict["benefit"])]


def metric_line(metric: dict[str, Any], needed: str) -> str:
    """One metric: canary minus control, its interval, the limit, and how much evidence there is of harmlessness."""
    parts = [_interval(metric)]
    if metric["limit"] is not None:
        parts.append(f"limit {_amount(metric['name'], metric['limit'])}")
    if metric["harmless_evidence"] is not None:
        parts.append(f"harmless {metric['harmless_evidence']:.3g} of {needed}")
    if metric["harm_evidence"] is not None:
        parts.append(f"harm {metric['harm_evidence']:.3g}")
    parts += [f"n {metric['canary_n']} / {metric['control_n']}", STANDINGS.get(metric["standing"], metric["standing"])]
    return printable(f"  {metric['name']:<11}{'; '.join(parts)}")


def benefit_line(benefit: dict[str, Any]) -> str:
    """Did the fix fix it?"""
    said = {True: "better", False: "worse"}.get(benefit["better"], "not shown yet")
    name = benefit["metric"]
    return printable(f"Benefit  {name} ({benefit['where']}): {_interval(benefit | {'name': name})}; {said}")


def failure_line(failure: dict[str, Any]) -> str:
    """Frames that failed for one reason, with the sentence of one of them."""
    said = failure["examples"][0]["detail"] if failure["examples"] else ""
    return printable(f"  {failure['frames']} x {failure['reason']}: {said}")


def _interval(metric: dict[str, Any]) -> str:
    if metric["estimate"] is None:
        return "no estimate"
    name = metric["name"]
    said = _amount(name, metric["estimate"])
    if metric["low"] is None or metric["high"] is None:
        return said
    return f"{said} ({_amount(name, metric['low'])} to {_amount(name, metric['high'])})"


def _amount(name: str, value: float) -> str:
    """A difference in its unit, or a ratio."""
    match name:
        case "completion":
            return f"{value * 100:+.1f} points"
        case "power":
            return f"{value:+.3f} W"
        case "latency" | "fps":
            return f"{math.expm1(min(value, 50.0)) * 100:+.1f} %"
        case _:
            return f"x{value:.2f}"
