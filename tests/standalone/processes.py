"""Watching processes from tests."""

import subprocess
from contextlib import suppress
from pathlib import Path

from standalone.processes import wait_until


def process_table() -> dict[int, tuple[int, str]]:
    """Living processes (no zombies): pid -> (parent, command)."""
    if not Path("/proc/self").exists():
        return _process_table_of_ps()
    table = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                table[int(folder.name)] = (int(parent), (folder / "cmdline").read_text().replace("\0", " "))
    return table


def _process_table_of_ps() -> dict[int, tuple[int, str]]:
    done = subprocess.run(["ps", "-axo", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True)
    table = {}
    for line in done.stdout.splitlines():
        pid, parent, state, command = line.split(None, 3)
        if not state.startswith("Z"):
            table[int(pid)] = (int(parent), command)
    return table


def descendants(root: int) -> set[int]:
    """All living processes below ``root``."""
    table = process_table()
    found: set[int] = set()
    fresh = {root}
    while fresh:
        fresh = {pid for pid, (parent, _) in table.items() if parent in fresh} - found
        found |= fresh
    return found


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    return pid in process_table()


def all_end(pids: set[int], timeout: float) -> bool:
    """Whether every one of these ends within ``timeout`` seconds."""
    return wait_until(lambda: not pids & process_table().keys(), timeout, interval=0.1)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
