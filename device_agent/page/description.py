"""What a frame is doing, in words and as JSON: of the running agent, or of its files."""

import json
import os
import shutil
import urllib.request
from contextlib import suppress
from typing import Any

import msgspec

from device_agent.folder import AgentFolder
from device_agent.installer.slots import Journal
from device_agent.ports import FrameIdentity, Store, TrialPolicy
from protocol.codec import decode
from protocol.errors import Refused
from protocol.repository import ReleaseManifest

TIMEOUT_S = 5.0


class LocalPage(msgspec.Struct, frozen=True):
    """``local.json``: where the running agent's page answers."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def release_name(store: Store, release: str | None) -> str | None:
    """ "name version" from the release's manifest in the store, None when there is none."""
    if release is None or not store.has(release):
        return None
    try:
        manifest = decode(store.read(release), ReleaseManifest)
    except Refused:
        return None
    return f"{manifest.name} {manifest.version}"


def describe(identity: FrameIdentity, journal: Journal | None, policy: TrialPolicy) -> dict[str, Any]:
    """The journal in words that JSON readers can rely on. ``policy`` is what ends a probation."""
    status: dict[str, Any] = {
        "frame_id": identity.frame_id,
        "hardware": identity.hardware,
        "locale": identity.locale,
        "agent_version": identity.agent_version,
    }
    if journal is not None:
        playing = journal.playing
        status |= {
            "state": journal.state,
            "release": playing.release if playing else None,
            "slot": journal.playing_slot,
            "target": journal.target,
            "desired_version": journal.desired_version,
            "failure": msgspec.to_builtins(journal.failure),
            "lip_errors": msgspec.to_builtins(journal.lip_errors),
            "figures": dict(journal.figures),
            "probation": _probation(journal, policy),
        }
    return status


def _probation(journal: Journal, policy: TrialPolicy) -> dict[str, float] | None:
    if journal.probation is None:
        return None
    return {
        "playbacks": journal.probation.playbacks,
        "playbacks_needed": policy.playbacks,
        "healthy_hours": round(journal.probation.healthy_s / 3_600, 3),
        "healthy_hours_needed": policy.healthy_s / 3_600,
    }


def disk(folder: AgentFolder) -> dict[str, float]:
    """What is free where the agent's folder lies and what the releases in it take, in MB of 10^6 bytes."""
    taken = 0
    for part in ("store", "partial"):
        with suppress(OSError), os.scandir(folder.path / part) as files:
            for file in files:
                with suppress(OSError):  # it may go while we look
                    taken += file.stat().st_size
    return {"free_mb": round(shutil.disk_usage(folder.path).free / 1e6, 1), "store_mb": round(taken / 1e6, 1)}


def ask(folder: AgentFolder) -> dict[str, Any] | None:
    """The status of the agent that runs on ``folder``, None when none answers."""
    try:
        page = msgspec.json.decode(folder.page.read_bytes(), type=LocalPage)
        with urllib.request.urlopen(f"{page.url}/status", timeout=TIMEOUT_S) as answer:  # noqa: S310  127.0.0.1
            status: dict[str, Any] = json.loads(answer.read(1024 * 1024))
    except (OSError, ValueError):
        return None
    return status
