"""A frame enrolled while everything runs: the broker lets it in at once, and it installs what a rollout brings."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from standalone.demo import NAME
from standalone.frames import copy_anchors
from standalone.stack import ROOT
from tests.end_to_end.world import Facts, framectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def manage(world: Facts, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "standalone", "manage", "--var", world.var, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def enrolled(world: Facts, tmp_path: Path, prefix: str, locale: str) -> Path:
    """The folder of a new frame's agent, PREFIX-0001."""
    done = manage(world, "enrol_frames", "--prefix", prefix, "--locale", locale, "--out", str(tmp_path / "frames"))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / prefix
    shutil.copytree(tmp_path / "frames" / f"{prefix}-0001", folder / "identity")
    copy_anchors(world.folder / "offline", folder / "trust")
    return folder


def test_a_frame_enrolled_later_connects_and_installs(world: Facts, tmp_path: Path) -> None:
    folder = enrolled(world, tmp_path, "hall", "fr")
    mqtts = f"mqtts://127.0.0.1:{world.broker_port}"
    probation = ("--trial-healthy-hours", "0.001")  # nobody plays in this hall: 3.6 healthy seconds prove a release
    agent = subprocess.Popen(
        [sys.executable, "-m", "device_agent", "run", "--dir", str(folder), "--mqtt", mqtts, *probation],
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    try:
        framectl(world, "groups", "create", "hall", "--query", "locale=fr")
        what = ("--release", f"{NAME} 1.0", "--group", "hall", "--stages", "100", "--with-base-model")
        rollout = framectl(world, "rollout", "start", *what)
        ended = framectl(world, "rollout", "watch", str(rollout["id"]), "--timeout", "90")
        assert ended["state"] == "succeeded"
        deadline = time.monotonic() + 30
        while (frame := framectl(world, "frames", "show", "hall-0001"))["release_name"] != f"{NAME} 1.0":
            assert time.monotonic() < deadline, frame
            time.sleep(0.5)
        assert frame["state"] == "committed"
        assert frame["figures"]["playbacks"] == 0
        assert 0.001 <= frame["figures"]["healthy_h"] < 0.01
        assert frame["figures"]["step_p99_ms"] > 0
        assert {entry["segment"] for entry in frame["reported"]["lip_errors"]} >= {"base", "mandarin"}
        status = [sys.executable, "-m", "device_agent", "status", "--dir", str(folder)]
        said = json.loads(subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
        assert said["release_name"] == f"{NAME} 1.0"
    finally:
        agent.terminate()
        assert agent.wait(20) == 0


def test_a_local_command_without_a_backend_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "standalone", "manage", "--var", str(tmp_path / "nothing"), "enrol_frames"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "run 'make up' first" in done.stderr
    assert "Traceback" not in done.stderr
