"""The status of a frame for people at a terminal."""

import time
from collections.abc import Mapping
from typing import Any

STATES = {
    "idle": "nothing is asked for",
    "downloading": "being fetched",
    "verifying": "being checked",
    "staged": "ready to be tried",
    "trial": "being tried",
    "committed": "up to date",
    "reverted": "the last update went back",
    "failed": "the last update did not come",
}
FIGURES = {
    "step_p50_ms": ("step, median", "ms"),
    "step_p99_ms": ("step, 99 %", "ms"),
    "memory_mb": ("memory", "MB"),
    "fps": ("frames drawn", "per s"),
    "power_w": ("power", "W"),
    "energy_j": ("energy of a playback", "J"),
}
"""What a trial measures, in the order it is shown."""
ON_ITS_WAY = frozenset({"downloading", "verifying", "staged", "trial"})
CLOCKS = {
    "wall": "the frame's own",
    "signed": "told by the backend, signed",
    None: "not known yet: nothing is installed until the backend has told the time",
}
WIDTH = 14


def in_words(status: Mapping[str, Any], now: float | None = None) -> str:
    """Lines of at most about 120 characters, without colours; ``now`` is seconds since 1970 UTC."""
    now = time.time() if now is None else now
    rows = [("Frame", _frame(status)), ("Agent", _agent(status))]
    if "state" in status:
        rows += _release(status)
    if runtime := status.get("runtime"):
        rows.append(("Runs on", _runtime(runtime)))
    if playback := status.get("last_playback"):
        rows.append(("Last film", _playback(playback, now)))
    if status.get("outbox_waiting") is not None:
        waiting = status["outbox_waiting"]
        rows.append(("Events", f"{waiting} wait for the backend" if waiting else "the backend has them all"))
    if certificate := status.get("certificate"):
        rows.append(("Certificate", _certificate(certificate)))
    if status.get("clock"):
        rows.append(("Clock", CLOCKS[status["clock"]["source"]]))
    if disk := status.get("disk"):
        rows.append(("Disk", f"{disk['free_mb']:,.0f} MB free; releases take {disk['store_mb']:,.1f} MB"))
    return "".join(f"{name:<{WIDTH}}{text}\n" for name, text in rows)


def _frame(status: Mapping[str, Any]) -> str:
    return f"{status.get('frame_id')} ({status.get('hardware')}, {status.get('locale')})"


def _agent(status: Mapping[str, Any]) -> str:
    if not status.get("running"):
        return f"{status.get('agent_version')}, not running"
    line = "connected" if status.get("online") else "not connected"
    wrong = f". {status['wrong_identity']}" if status.get("wrong_identity") else ""
    return f"{status.get('agent_version')}, running, {line}{wrong}"


def _release(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    state = str(status["state"])
    release = status.get("release")
    name = status.get("release_name") or (f"release {release[:12]}" if release else "no release yet")
    rows = [("Plays", f"{name} in slot {status['slot']}" if status.get("slot") else name)]
    words = STATES.get(state, state)
    probation = status.get("probation")
    target = status.get("target")
    if probation:
        rows += [("State", "on probation"), ("Probation", _probation(probation))]
    elif state in ON_ITS_WAY and target:
        rows.append(("On its way", f"{status.get('target_name') or f'release {target[:12]}'}: {words}"))
    else:
        rows.append(("State", words))
    if figures := _figures(status.get("figures") or {}):
        rows.append(("Trial", figures))
    rows += [("Lips", _lips(part)) for part in status.get("lip_errors") or ()]
    if failure := status.get("failure"):
        rows.append(("Failure", f"{failure['reason']}: {failure['detail']}"))
    return rows


def _probation(probation: Mapping[str, Any]) -> str:
    return (
        f"{probation['playbacks']} of {probation['playbacks_needed']} playbacks,"
        f" or {probation['healthy_hours']:.1f} of {probation['healthy_hours_needed']:g} healthy hours"
    )


def _figures(figures: Mapping[str, float]) -> str:
    shown = [f"{name} {figures[key]:.4g} {unit}" for key, (name, unit) in FIGURES.items() if key in figures]
    if figures.get("power_estimated") and ("power_w" in figures or "energy_j" in figures):
        shown.append("power is estimated")
    return "; ".join(shown)


def _lips(part: Mapping[str, Any]) -> str:
    limit = f", limit {part['limit_mm']:.2f}" if part.get("limit_mm") is not None else ""
    return f"{part['segment']} {part['lip_mm']:.2f} mm (a resting mouth {part['mean_pose_mm']:.2f}{limit})"


def _runtime(runtime: Mapping[str, Any]) -> str:
    uses, why, setting = runtime.get("uses"), runtime.get("why"), runtime.get("setting")
    if not uses:
        return f"known after the first film (the setting is {setting})"
    if not why and uses == "CPU":
        why = "no NPU was found for this release" if setting == "auto" else f"the setting is {setting}"
    return f"{uses}: {why}" if why else str(uses)


def _certificate(certificate: Mapping[str, Any]) -> str:
    end = certificate["until"][:10]
    if certificate["lapsed"]:
        return f"lapsed on {end}: to be renewed at the birth endpoint"
    return f"good until {end}; the next one is asked for from {certificate['renewed_from'][:10]} on"


def _playback(playback: Mapping[str, Any], now: float) -> str:
    complained = "; lips did not match" if playback.get("complained") else ""
    return (
        f"{_ago(now - playback['at'] / 1000)}, {playback['seconds']:.1f} s long; first frame after"
        f" {playback['first_frame_ms']:.0f} ms, {playback['fps']:.0f} frames per s{complained}"
    )


def _ago(seconds: float) -> str:
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name} ago"
    return "just now"
