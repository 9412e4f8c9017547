"""What an idle agent costs: ``python -m benchmarks.idle [--seconds 60]`` (``make bench-idle``).

A real broker, a backend that answers, and one agent that has installed the reference model, is connected and has
nothing more to do; a service manager listens as on a frame. Measured from /proc over the window: CPU seconds of the
agent and of every process it has, resident memory, and how often its threads woke up. The last line is
``BENCH {json}``.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.device_agent.live import Backend, LiveAgent, backend_user, frame_user, until
from tests.device_agent.repository import Repository, desired
from tests.device_agent.service_manager import ServiceManager, loaded
from tests.services import mqtt_broker

FRAME = "frame-1"
BUNDLE = Path(__file__).parents[1] / "reference_model" / "artifacts" / "talking-portrait-1.0.bundle"
SETTLE_S = 5.0
LIMIT = 0.01
"""Of one core."""


@dataclass(frozen=True)
class Usage:
    """Totals of a process and its children: CPU in s, wake-ups (voluntary switches of all threads), memory in MB."""

    cpu_s: float
    wakeups: int
    rss_mb: float
    processes: int


def usage(pid: int) -> Usage:
    """From /proc, children included."""
    ticks = os.sysconf("SC_CLK_TCK")
    pids = [pid, *children(pid)]
    cpu, wakeups, pages = 0.0, 0, 0
    for one in pids:
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        cpu += (int(fields[11]) + int(fields[12])) / ticks
        pages += int(fields[21])
        for status in Path(f"/proc/{one}/task").glob("*/status"):
            (line,) = (line for line in status.read_text().splitlines() if line.startswith("voluntary"))
            wakeups += int(line.split()[1])
    return Usage(cpu, wakeups, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(pids))


def children(pid: int) -> list[int]:
    """Process ids below ``pid``."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


def measure(folder: Path, seconds: float) -> tuple[dict[str, float], list[str]]:
    """Start everything, install a release, wait, and measure: the figures, and which heavy libraries are loaded."""
    repository = Repository()
    users = [backend_user(), frame_user(FRAME)]
    with mqtt_broker(folder, users) as broker, ServiceManager(str(folder / "notify")) as manager:
        backend = Backend(broker)
        agent = LiveAgent(folder / "frame", broker, FRAME, repository.anchors())
        os.environ |= {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "60000000"}
        agent.start("--log-level", "WARNING")
        try:
            release = repository.release("portrait", "1.0", [repository.base(BUNDLE.read_bytes())])
            backend.put(repository.retained)
            backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, release)))
            until(lambda: bool(backend.reports) and backend.reports[-1].release == release.release.sha256, 120.0)
            time.sleep(SETTLE_S)
            pid = json.loads((agent.folder / "local.json").read_bytes())["pid"]
            before, began = usage(pid), time.monotonic()
            time.sleep(seconds)
            after, took = usage(pid), time.monotonic() - began
            told, libraries = manager.heard(), loaded(pid)
        finally:
            agent.stop()
            backend.close()
    if not any("READY=1" in line for line in told):
        raise SystemExit("The agent did not tell its service manager that it runs.")
    return {
        "idle_cpu_percent": round(100 * (after.cpu_s - before.cpu_s) / took, 3),
        "idle_wakeups_per_s": round((after.wakeups - before.wakeups) / took, 1),
        "idle_rss_mb": round(after.rss_mb, 1),
        "idle_processes": after.processes,
        "idle_window_s": round(took, 1),
        "idle_heavy_libraries": len(libraries),
    }, libraries


def main() -> int:
    """Exit status 1 when the agent is busier than allowed, or holds a library that only rendering needs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to measure")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="framefleet-idle-") as folder:
        figures, libraries = measure(Path(folder), arguments.seconds)
    print(f"An idle agent takes {figures['idle_cpu_percent']} % of a core (at most {LIMIT:.0%} is allowed),")
    print(f"wakes up {figures['idle_wakeups_per_s']} times a second, and holds {figures['idle_rss_mb']} MB.")
    if libraries:
        print(f"It holds {', '.join(libraries)}, which only rendering needs.")
    print(f"BENCH {json.dumps(figures)}")
    return 1 if figures["idle_cpu_percent"] > 100 * LIMIT or libraries else 0


if __name__ == "__main__":
    sys.exit(main())
