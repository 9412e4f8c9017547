"""What the demonstration's last line holds, computed from what the API says. Pure."""

from collections.abc import Callable, Set
from typing import Any

from standalone.acts import hours

Json = dict[str, Any]
Frames = dict[str, Json]


def frames_on(frames: Frames, which: Set[str], release: str) -> int:
    """How many of these frames run the release ("name version")."""
    return sum(frames[name]["release_name"] == release for name in which if name in frames)


def others_changed(before: Frames, after: Frames, but: Set[str]) -> int:
    """How many frames, except some, run another release or from another slot than before."""
    return sum(_runs(after[name]) != _runs(before[name]) for name in after if name in before and name not in but)


def _runs(frame: Json) -> tuple[Any, ...]:
    reported = frame["reported"] or {}
    return frame["release_name"], reported.get("slot")


def lips_of(frame: Json) -> dict[str, Json]:
    """Segment -> what the frame measured on its golden clips."""
    return {entry["segment"]: entry for entry in frame["reported"]["lip_errors"]}


def stages_of(rollout: Json, day_seconds: float) -> list[Json]:
    """Each stage that opened: its share, and how long it took in people's hours and real seconds; None where it did
    not end."""
    found = []
    ends = [stage["opened_at"] for stage in rollout["stages"][1:]] + [rollout["ended_at"]]
    for stage, next_at in zip(rollout["stages"], ends, strict=True):
        if stage["opened_at"] is None:
            continue
        lived = hours(stage["opened_at"], next_at or rollout["ended_at"])
        found.append({"share": stage["share"], "hours": round(lived, 1), "seconds": round(lived / 24 * day_seconds, 1)})
    return found


def said(version: str, told: Json) -> str:
    """How a rollout was decided, in one sentence."""
    metric = f" ({told['reason_metric']})" if told["reason_metric"] else ""
    after = f"after {told['hours_simulated']:g} of people's hours"
    return f"{version}: {told['verdict']} by the {told['by']} {after}, {told['reason']}{metric}."


def figures_of(rollout: Json, say: Callable[[str], None]) -> None:
    """What people experienced, by arm and release."""
    say("\n  What people experienced (simulated people), by arm and release")
    say("  arm      release               frames  playbacks  completion  complaints/1000  power")
    for row in rollout["metrics"]:
        share, complaints, power = row["completion_rate"], row["complaint_rate"], row["power_w"]
        say(
            f"  {row['arm']:<8} {row['release_name']:<20} {row['frames']:>7} {row['playbacks']:>10}"
            f" {_figure(share, 100, ' %'):>11} {_figure(complaints, 1000, ''):>16} {_figure(power, 1, ' W', 2):>7}"
        )


def _figure(value: float | None, factor: float, unit: str, digits: int = 1) -> str:
    return "-" if value is None else f"{value * factor:.{digits}f}{unit}"
