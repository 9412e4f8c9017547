"""A frame's whole life with the real backend: born by a claim, told the time, renewed, led to the next authority."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from device_agent.folder import AgentFolder, read_frame_file
from device_agent.identity import lapsed
from device_agent.identity.claim import server_context
from device_agent.identity.pairs import Pairs
from standalone.frames import copy_anchors
from standalone.stack import ROOT, Stack
from tests.device_agent.identity.live import LiveFrame
from tests.end_to_end.test_new_frame import manage
from tests.end_to_end.world import Facts, framectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FRAME = "attic-1"


def eventually(check: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)
    return found


def device_agent(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "device_agent", *arguments]


def claimed(world: Facts, tmp_path: Path) -> AgentFolder:
    """Made known by CSV, born by the token on its label."""
    (tmp_path / "frames.csv").write_text(f"frame_id,household,locale,hardware\n{FRAME},attic,it,rk3588\n")
    claims = tmp_path / "claims.csv"
    framectl(world, "frames", "import", str(tmp_path / "frames.csv"), "--claims", str(claims))
    with claims.open() as file:
        (row,) = csv.DictReader(file)
    stack = Stack.below(world.folder)
    folder = AgentFolder(tmp_path / "frame")
    command = device_agent("claim", "--dir", str(folder.path), "--server", stack.birth_url, "--ca", str(stack.ca))
    done = subprocess.run([*command, row["token"]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"This is frame {FRAME} now; its broker is mqtts://" in done.stdout
    copy_anchors(world.folder / "offline", folder.trust)
    return folder


def certificates(world: Facts) -> list[dict[str, Any]]:
    held: list[dict[str, Any]] = framectl(world, "frames", "show", FRAME)["identity"]["certificates"]
    return held


def serial(folder: AgentFolder) -> str:
    return format(Pairs(folder.identity).certificate().serial_number, "x")


def restart_bridge(world: Facts) -> None:
    """End it; its supervisor starts it again."""
    ours = f"FRAMEFLEET_VAR={Stack.below(world.folder).server_var}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is not ours
            command = (process / "cmdline").read_bytes().split(b"\0")
            if b"bridge" in command and ours in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGTERM)
                return
    raise AssertionError("there is no bridge")


def test_a_frame_is_born_told_the_time_renewed_and_led_to_the_next_authority(world: Facts, tmp_path: Path) -> None:
    folder = claimed(world, tmp_path)
    frame_file = read_frame_file(folder)
    assert (frame_file.frame_id, frame_file.locale) == (FRAME, "it")
    assert [one["serial"] for one in certificates(world)] == [serial(folder)]

    # Without a clock: the director tells the time over the real broker and bridge, then all is strict.
    anchors = {name: (folder.trust / f"{name}.json").read_bytes() for name in ("root", "director-root")}
    assert frame_file.mqtt is not None
    frame = LiveFrame(folder.path, frame_file.mqtt, anchors, wall=lambda: 0.0)
    try:
        eventually(lambda: frame.core.online, "the frame is connected")
    finally:
        frame.stop()
    assert frame.clock.source == "signed"
    assert abs(frame.clock.date_ms() / 1000 - time.time()) < 30.0

    # Out of the drawer: the birth endpoint renews against proof of the old key.
    pairs = Pairs(folder.identity)
    what = lapsed.Lapsed(
        frame_id=FRAME,
        certificate=pairs.certificate(),
        authorities=pairs.authorities(),
        key=pairs.key(),
        next_key=pairs.next_key(),
        now=frame.clock.now,
    )
    context = lambda: server_context(folder, frame_file, pairs.current.ca, frame.clock)  # noqa: E731
    assert frame_file.server is not None
    pairs.adopt(lapsed.renew(frame_file.server, context, what))
    born, renewed = what.certificate.serial_number, serial(folder)
    assert renewed != format(born, "x")

    with (tmp_path / "agent.log").open("wb") as log:
        agent = subprocess.Popen(
            device_agent("run", "--dir", str(folder.path), "--log-level", "DEBUG"), stderr=log, cwd=ROOT
        )
    try:
        eventually(lambda: framectl(world, "frames", "show", FRAME)["reported"], "the frame reports")
        eventually(lambda: not (folder.identity / "cert.pem").exists(), "the new certificate has connected")

        # The fleet's authority changes: the backend asks, the frame follows by the cross certificate.
        rotated = manage(world, "fleet_ca", "--rotate")
        assert rotated.returncode == 0, rotated.stderr
        restart_bridge(world)  # as the command says
        agent.terminate()
        assert agent.wait(20) == 0
        with (tmp_path / "agent.log").open("ab") as log:
            agent = subprocess.Popen(device_agent("run", "--dir", str(folder.path)), stderr=log, cwd=ROOT)
        eventually(lambda: serial(folder) != renewed, "the frame renews its certificate", 60.0)
        eventually(lambda: len(list(folder.identity.glob("key-*"))) == 1, "and has connected with it")
        assert len(Pairs(folder.identity).authorities()) == 2
        assert {one["serial"] for one in certificates(world)} >= {renewed, serial(folder)}
        said = subprocess.run(
            device_agent("status", "--dir", str(folder.path)), cwd=ROOT, capture_output=True, text=True, check=True
        )
        status = json.loads(said.stdout)
        assert status["online"]
        assert status["certificate"]["serial"] == serial(folder)
        assert status["clock"]["source"] == "wall"
    finally:
        agent.terminate()
        agent.wait(20)
    assert "Traceback" not in (tmp_path / "agent.log").read_text()
