"""A whole base model over MQTT: ``python -m benchmarks.model [--mb 692] [--frames 5]`` (``make bench-model``).

The real path from end to end: framectl signs a file of random bytes offline and pushes it, the bridge publishes its
chunks to the embedded broker, a rollout offers it, and frames (``benchmarks.model_frame``: the agent's own core,
connection, trust, journal and store, a process each) fetch it. Each is killed with ``kill -9`` once, at a random point
of its download, and started again. The last line is ``BENCH {json}``:

- ``complete``: frames that committed the release, every byte hashed again before;
- ``seconds``: from the start of the rollout to the last commit; ``publish_seconds``: from the push to the last PUBACK;
- ``broker_rss_mb``: the broker's largest resident memory, from /proc;
- ``resent_ratio``: chunks that frames asked for more than once, over those that they needed; what was on its way when a
  frame was killed counts, whether the broker had sent it or not.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.model_frame import asked
from protocol.chunks import chunk_count, index_lengths
from standalone.ctl import Framectl
from standalone.frames import ENVIRONMENT, copy_anchors
from standalone.stack import ROOT, Stack
from standalone.supervisor import Supervisor, supervise

NAME, VERSION = "model", "1.0"
PIECE = 1 << 20
PATIENCE_S = 1_800.0
POLL_S = 0.05


@dataclass
class Frame:
    """A frame's process and where it will be cut."""

    folder: Path
    mqtt: str
    cut_at: int
    process: subprocess.Popen[bytes] | None = None
    cuts: list[int] = field(default_factory=list)

    def start(self) -> None:
        argv = [sys.executable, "-m", "benchmarks.model_frame", "--dir", str(self.folder), "--mqtt", self.mqtt]
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(argv, cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=log, stderr=log)

    def downloaded(self, sha256: str) -> int:
        """Bytes of the object on the frame's disk so far."""
        path = self.folder / "partial" / sha256
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0

    def cut(self, at: int) -> None:
        """Kill it and start it again."""
        self.stop(kill=True)
        self.cuts.append(at)
        self.start()

    def stop(self, *, kill: bool = False) -> None:
        if self.process is not None:
            self.process.kill() if kill else self.process.terminate()
            self.process.wait(30)


class Benchmark:
    """One run below ``folder``."""

    def __init__(self, folder: Path, size: int, frames: int) -> None:
        self.folder = folder
        self.size = size
        self.count = frames
        self.stack = Stack.below(folder / "var")
        self.frames: list[Frame] = []
        self.figures: dict[str, Any] = {}

    async def story(self, supervisor: Supervisor) -> int:
        stack = self.stack
        await stack.start_database(supervisor)
        await stack.manage(
            *(supervisor, "enrol_frames", "--prefix", "model", "--count", str(self.count), "--locale", "zh"),
            *("--out", str(self.folder / "enrolled")),
        )
        await stack.start_services(supervisor)
        ctl = Framectl(stack.url, await stack.api_token(supervisor))
        sha256 = await self._publish(ctl)
        try:
            await self._roll_out(ctl, sha256)
        finally:
            for frame in self.frames:
                frame.stop()
        self._measure(sha256)
        return 0

    async def _publish(self, ctl: Framectl) -> str:
        """Sign, push, and make the frames' folders; returns the file's SHA-256."""
        offline, package, model = self.folder / "offline", self.folder / "model.zip", self.folder / "model.bin"
        await ctl("keys", "create", "--out", str(offline), quiet=True)
        await ctl("repository", "init", "--offline", str(offline), quiet=True)
        with model.open("wb") as file:
            for at in range(0, self.size, PIECE):
                file.write(os.urandom(min(PIECE, self.size - at)))
        what = ("--name", NAME, "--version", VERSION, "--base-model", str(model), "--out", str(package))
        await ctl("release", "sign", "--offline", str(offline), *what, quiet=True)
        model.unlink()
        began = time.monotonic()
        await ctl("release", "push", str(package), "--timeout", str(PATIENCE_S), quiet=True)
        self.figures["publish_seconds"] = round(time.monotonic() - began, 1)
        package.unlink()
        for identity in sorted((self.folder / "enrolled").iterdir()):
            home = self.folder / "frames" / identity.name
            shutil.copytree(identity, home / "identity")
            copy_anchors(offline, home / "trust")
            cut_at = int(self.size * random.uniform(0.05, 0.95))  # noqa: S311  no secret
            self.frames.append(Frame(home, self.stack.broker.url, cut_at))
        (release,) = await ctl("release", "list", quiet=True)
        return next(str(one["sha256"]) for one in release["artifacts"] if one["kind"] == "base_model")

    async def _roll_out(self, ctl: Framectl, sha256: str) -> None:
        await ctl("groups", "create", "all", quiet=True)
        for frame in self.frames:
            frame.start()
        began = time.monotonic()
        what = ("--release", f"{NAME} {VERSION}", "--group", "all", "--stages", "100", "--with-base-model")
        rollout = await ctl("rollout", "start", *what, quiet=True)
        ends = asyncio.create_task(
            ctl("rollout", "watch", str(rollout["id"]), "--timeout", str(PATIENCE_S), quiet=True)
        )
        while not ends.done():
            for frame in self.frames:
                if not frame.cuts and (at := frame.downloaded(sha256)) >= frame.cut_at:
                    frame.cut(at)
            await asyncio.sleep(POLL_S)
        ended = await ends
        self.figures["seconds"] = round(time.monotonic() - began, 1)
        self.figures["state"] = ended["state"]

    def _measure(self, sha256: str) -> None:
        complete = sum((frame.folder / "store" / sha256).stat().st_size == self.size for frame in self.frames)
        state = self.figures.pop("state")
        # Each chunk of the file, of its indexes, and the release's manifest, which is one.
        once = self.count * (sum(map(chunk_count, (self.size, *index_lengths(self.size)))) + 1)
        taken = sum(asked(frame.folder) for frame in self.frames)
        self.figures = {
            "complete": complete if state == "succeeded" else 0,
            "seconds": self.figures["seconds"],
            "broker_rss_mb": self._broker_rss(),
            "resent_ratio": round(taken / once - 1, 6),
            "publish_seconds": self.figures["publish_seconds"],
            "frames": self.count,
            "mb": round(self.size / 1e6, 1),
            "cuts": sum(len(frame.cuts) for frame in self.frames),
        }

    def _broker_rss(self) -> float:
        pid = int(self.stack.broker.pid_file.read_text())
        status = Path(f"/proc/{pid}/status").read_text()
        (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return round(int(peak.split()[1]) * 1024 / 1e6, 1)


def main() -> int:
    """Exit status 1 when a frame did not commit, or was not cut."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model", description=__doc__)
    parser.add_argument("--mb", type=float, default=692.0, help="size of the file in MB of 10^6 bytes")
    parser.add_argument("--frames", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="framefleet-model-") as folder:
        benchmark = Benchmark(Path(folder), int(arguments.mb * 1e6), arguments.frames)
        status = supervise(Path(folder) / "var", benchmark.story)
    if status:
        return status
    figures = benchmark.figures
    print(f"{figures['complete']} of {figures['frames']} frames have {figures['mb']} MB, each cut once.")
    print(f"BENCH {json.dumps(figures)}")
    return 0 if figures["complete"] == figures["cuts"] == figures["frames"] else 1


if __name__ == "__main__":
    sys.exit(main())
