"""A release brings a new agent to a frame through everything: packed, signed, pushed, rolled out, and taken back."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from device_agent.version import AGENT_VERSION
from standalone.demo import NAME
from standalone.stack import ROOT
from tests.end_to_end.test_new_frame import enrolled
from tests.end_to_end.world import Facts, framectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FRAME, NEW = "cellar-0001", "9.9.0"


def packed(tmp_path: Path) -> Path:
    """This very agent under another version."""
    for package in ("device_agent", "protocol"):
        shutil.copytree(ROOT / package, tmp_path / "source" / package)
    version = tmp_path / "source" / "device_agent" / "version.py"
    version.write_text(version.read_text().replace(AGENT_VERSION, NEW))
    return tmp_path / "source"


def roll_out(world: Facts, version: str) -> str:
    what = ("--release", f"{NAME} {version}", "--group", "cellar", "--stages", "100", "--with-base-model")
    rollout = str(framectl(world, "rollout", "start", *what)["id"])
    assert framectl(world, "rollout", "watch", rollout, "--timeout", "90")["state"] == "succeeded"
    return rollout


def becomes(world: Facts, release: str, agent: str) -> None:
    """The frame runs ``release`` for good, on that agent."""
    deadline = time.monotonic() + 60
    while True:
        frame = framectl(world, "frames", "show", FRAME)
        if (frame["release_name"], frame["state"], frame["agent_version"]) == (f"{NAME} {release}", "committed", agent):
            return
        assert time.monotonic() < deadline, frame
        time.sleep(0.5)


def test_a_release_brings_an_agent_and_takes_it_back(world: Facts, tmp_path: Path) -> None:
    folder = enrolled(world, tmp_path, "cellar", "is")
    agent, package = tmp_path / "agent.zip", tmp_path / "1.9.zip"
    framectl(world, "agent", "pack", "--source", str(packed(tmp_path)), "--out", str(agent))
    who = ("--offline", str(world.folder / "offline"), "--name", NAME, "--version", "1.9")
    what = ("--base-release", f"{NAME} 1.0", "--agent", str(agent), "--out", str(package))
    framectl(world, "release", "sign", *who, *what)
    framectl(world, "release", "push", str(package))
    framectl(world, "groups", "create", "cellar", "--query", "locale=is")

    mqtts = f"mqtts://127.0.0.1:{world.broker_port}"
    probation = ("--trial-healthy-hours", "0.0005")  # nobody plays in this cellar
    command = ("run", "--dir", str(folder), "--mqtt", mqtts, *probation)
    process = subprocess.Popen([sys.executable, "-m", "device_agent", *command], stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        roll_out(world, "1.0")
        becomes(world, "1.0", AGENT_VERSION)
        rollout = roll_out(world, "1.9")
        becomes(world, "1.9", NEW)
        assert process.poll() is None, "it is the same process"
        framectl(world, "rollout", "rollback", rollout, "--reason", "the cellar is cold")
        becomes(world, "1.0", AGENT_VERSION)
    finally:
        process.terminate()
        assert process.wait(20) == 0
