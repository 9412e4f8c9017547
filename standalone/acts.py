"""Watching a rollout that the engine decides by evidence: what it found is told as it comes, and summed up at the end.

Nobody helps: this module only reads. Times are people's.
"""

import asyncio
import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from standalone.ctl import Api
from standalone.processes import ServiceError

LOOK_EVERY_S = 1.5
TELL_EVERY_H = 12.0
"""An unchanged verdict is told again so often."""
ENDED = frozenset({"succeeded", "aborted", "rolled_back"})
METRICS = {
    "completion": ("completion", 100.0, "points"),
    "power": ("power", 1.0, "W"),
    "latency": ("time to the first frame", 100.0, "%"),
    "fps": ("frames per second", 100.0, "%"),
    "complaint": ("complaints", 1.0, "times"),
}
"""Metric -> what it is called, factor and unit of its estimate."""

Json = dict[str, Any]


async def decided(api: Api, rollout_id: int, patience_s: float, tell: Callable[[str], None]) -> Json:
    """The rollout once it has ended. Raises ServiceError when it does not within ``patience_s``, or somebody has to
    help it."""
    deadline = time.monotonic() + patience_s
    told: tuple[Any, ...] = ()
    told_h = 0.0
    while True:
        rollout: Json = await api.get(f"rollouts/{rollout_id}/")
        verdict = rollout.get("verdict")
        if verdict is not None:
            now_h = hours(rollout["began_at"], verdict["at"])
            state = (verdict["stage"], verdict["decision"], verdict["reason"])
            if state != told or now_h - told_h >= TELL_EVERY_H:
                told, told_h = state, now_h
                tell(line(rollout, verdict, now_h))
        if rollout["state"] in ENDED:
            return rollout
        if rollout["state"] == "paused":
            raise ServiceError(f"Rollout {rollout_id} paused and waits for a person: {rollout['reason']}")
        if time.monotonic() > deadline:
            waits = (rollout.get("waiting") or {}).get("sentence", f"it is {rollout['state']}")
            raise ServiceError(f"Rollout {rollout_id} has not ended within {patience_s:.0f} s: {waits}")
        await asyncio.sleep(LOOK_EVERY_S)


def line(rollout: Json, verdict: Json, now_h: float) -> str:
    """One look in one line."""
    stage = rollout["stages"][verdict["stage"] - 1] if verdict["stage"] else None
    where = f"stage {verdict['stage']} ({stage['share'] * 100:g} %)" if stage else "no stage"
    evidence = f"evidence of harm {_e(verdict['evidence'])} of {verdict['needed']:.0f}"
    shown = "; ".join(filter(None, map(_metric, verdict["metrics"])))
    exposure = verdict.get("exposure")
    frames = f"; {exposure['frames']} frames have played it" if exposure else ""
    return f"  {now_h:5.0f} h  {where}  {verdict['sentence']}\n           {evidence}{frames}" + (
        f"\n           {shown}" if shown else ""
    )


def _metric(metric: Json) -> str:
    """``completion +4.1 points [1.2, 7.0]`` of a metric that has an estimate."""
    if metric["name"] not in METRICS or metric["estimate"] is None:
        return ""
    name, factor, unit = METRICS[metric["name"]]
    if metric["name"] == "complaint":
        return f"{name} {metric['estimate']:.2f} {unit}{_band(metric, factor, '.2f')}"
    return f"{name} {metric['estimate'] * factor:+.2f} {unit}{_band(metric, factor, '+.2f')}"


def _band(metric: Json, factor: float, digits: str) -> str:
    low, high = metric["low"], metric["high"]
    if low is None or high is None or max(abs(low), abs(high)) > 1e6:
        return ""
    return f" [{low * factor:{digits}}, {high * factor:{digits}}]"


def _e(value: float) -> str:
    return f"{value:.2g}" if value < 1e4 else f"{value:.0e}"


def told_by(rollout: Json) -> Json:
    """How a rollout came to its end by verdict: the decision, after how many of people's hours, for which metric and by
    what evidence, each taken from the trail that the engine wrote. Raises ServiceError when a person had a part."""
    events = sorted(rollout["events"], key=lambda event: event["at"])
    began = rollout["began_at"]
    decisions = [event for event in events if event["detail"].get("look")]
    if not decisions:
        raise ServiceError(f"Rollout {rollout['id']} ended as {rollout['state']} without a verdict.")
    after = [event for event in events if event["at"] >= began and event["kind"] not in ("started", "commented")]
    if helped := [event for event in after if event["actor"] != "engine"]:
        raise ServiceError(f"Rollout {rollout['id']} was helped by {helped[0]['actor']}: {helped[0]['kind']}.")
    last = decisions[-1]
    look = last["detail"]["look"]
    return {
        "verdict": look["decision"].upper(),
        "hours_simulated": round(hours(began, last["at"]), 1),
        "by": last["actor"],
        "reason": look["reason"],
        "reason_metric": (look["metrics"] or [_weakest(look)])[0],
        "evidence": _evidence(look),
        "looks_that_decided": [
            {
                "stage": event["detail"]["look"]["stage"],
                "decision": event["detail"]["look"]["decision"],
                "hours_simulated": round(hours(began, event["at"]), 1),
            }
            for event in decisions
        ],
    }


def _weakest(look: Json) -> str:
    """Of a promotion: the metric that was shown last, which is the one with the least evidence beyond the bar."""
    asked = [one for one in look["evidence"]["metrics"] if one["margin"] is not None]
    found = min(asked, key=lambda one: one["log_e_noninferior"] or -math.inf, default=None)
    return "" if found is None else str(found["name"])


def _evidence(look: Json) -> dict[str, Json]:
    """Metric -> its estimate, band, margin, evidence and counts at the look."""
    return {
        one["name"]: {
            "estimate": _rounded(one["estimate"]),
            "low": _rounded(one["low"]),
            "high": _rounded(one["high"]),
            "margin": one["margin"],
            "harm_e": _power(one["log_term"]),
            "harmless_e": _power(one["log_e_noninferior"]),
            "canary_n": one["canary_n"],
            "control_n": one["control_n"],
        }
        for one in look["evidence"].get("metrics", ())
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or not abs(value) < 1e6 else round(value, 5)


def _power(log: float | None) -> float | None:
    """e to the ``log``, at most 1e9: beyond, figures say nothing more."""
    return None if log is None else float(f"{math.exp(min(log, math.log(1e9))):.4g}")


def hours(since: str, until: str) -> float:
    """Hours between two times as the API tells them."""
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds() / 3600
