"""What the demonstration's last line holds, computed from what the API says. Pure."""

from collections.abc import Callable, Set
from typing import Any

from standalone.acts import hours, told_by

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


def good_act(before: Frames, after: Frames, group: Set[str], rollout: Json, day_seconds: float) -> Json:
    """The first act: a fix for the group, and that nobody else noticed it. The full agent is in the group."""
    agent = next(name for name in after if not after[name]["simulated"])
    old, new = lips_of(before[agent]), lips_of(after[agent])
    told, stages = told_by(rollout), stages_of(rollout, day_seconds)
    return {
        "group_frames": len(group),
        "group_on_1_1": frames_on(after, group, rollout["release"]),
        "others_changed": others_changed(before, after, group),
        "good_verdict": told["verdict"],
        "good": told,
        "stages": stages,
        "lip_mm": {
            "mandarin_before": old["mandarin"]["lip_mm"],
            "mandarin_after": new["mandarin"]["lip_mm"],
            "base_before": old["base"]["lip_mm"],
            "base_after": new["base"]["lip_mm"],
            "mean_pose": new["mandarin"]["mean_pose_mm"],
        },
    }


def bad_act(before: Frames, after: Frames, rollout: Json, worst: Json, day_seconds: float) -> Json:
    """The second act: what went out and came back; ``worst`` is a frame as it was while it ran the release."""
    lips = lips_of(worst)
    told = told_by(rollout) | {
        "stages": stages_of(rollout, day_seconds),
        "frames_that_had_it": rollout["returned"] + rollout["returning"],
        "frames_on_it_now": frames_on(after, set(after), rollout["release"]),
        "not_as_before": others_changed(before, after, set()),
        "mandarin_lip_mm": lips["mandarin"]["lip_mm"],
        "base_lip_mm": lips["base"]["lip_mm"],
    }
    return {"bad_verdict": told["verdict"], "bad": told}


def expected_of(preview: Json) -> Json:
    """What the fleet's own history lets expect: hours to the last verdict on a harmless release, median and 9 of 10,
    and the share of such rollouts that are decided in time. None where history is too short."""
    forecast = preview["forecast"] or {}
    return {name: forecast.get(name) for name in ("hours_median", "hours_high", "promoted", "enough")}


def previewed(preview: Json) -> str:
    """A preview in a few lines."""
    lines = [
        f"  stage {stage['number']} ({stage['share'] * 100:g} %): {stage['canaries']} frames have it, "
        f"{stage['controls']} to compare with"
        for stage in preview["stages"]
    ]
    expected = expected_of(preview)
    if expected["hours_median"] is not None:
        usual, high = expected["hours_median"], expected["hours_high"]
        within = f", 9 of 10 within {high:.0f} h" if high is not None else ""
        lines.append(f"  A harmless release would take {usual:.0f} of people's hours{within}.")
    left_out = sum(one["frames"] for one in preview["excluded"])
    head = f"Preview: {preview['frames']} frames, {left_out} left out"
    return "\n".join([head, *lines, *filter(None, [(preview["forecast"] or {}).get("warning", "")])])


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
