"""Real services under a supervisor in a process of its own: nothing is left, however it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from standalone.broker import find_binary
from standalone.postgres import find_binaries
from standalone.processes import wait_until
from tests.services import require
from tests.standalone.processes import all_end, descendants, lines, process_table

pytestmark = pytest.mark.slow


@contextmanager
def stack(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The stack, up and running; what is left of it afterwards is killed."""
    require(find_binaries)
    require(find_binary)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.standalone.stack_for_tests", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    seen: set[int] = set()
    try:
        assert wait_until((folder / "up").exists, 60, interval=0.05), "the stack does not come up"
        seen = descendants(process.pid)
        yield process
    finally:
        for pid in seen & process_table().keys():
            with suppress(ProcessLookupError):  # it may be ending just now
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def _guard_pid(root: int) -> int:
    table = process_table()
    (found,) = (pid for pid in descendants(root) if "guard.py" in table[pid][1])
    return found


def test_one_ctrl_c_stops_all_in_reverse_order(tmp_path: Path) -> None:
    with stack(tmp_path) as process:
        below = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert all_end(below, 1)
    changes = lines(tmp_path / "changes")
    ready = [line.split()[0] for line in changes if line.endswith(" ready")]
    stopped = [line.split()[0] for line in changes if line.endswith(" stopped")]
    assert ready == ["postgres", "broker", "tree"]
    assert stopped == ["tree", "broker", "postgres"]
    assert "database system is shut down" in (tmp_path / "var/log/postgres.log").read_text()
    status = json.loads((tmp_path / "var/run/status.json").read_text())
    assert [service["state"] for service in status["services"]] == ["stopped"] * 3


def test_ctrl_c_at_the_terminal_reaches_the_supervisor_alone(tmp_path: Path) -> None:
    with stack(tmp_path) as process:
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does: to the whole foreground group
        assert process.wait(30) == 0
    stopped = [line.split()[0] for line in lines(tmp_path / "changes") if line.endswith(" stopped")]
    assert stopped == ["tree", "broker", "postgres"]
    assert not [line for line in lines(tmp_path / "changes") if line.endswith(" waiting")]


def test_kill_9_of_the_supervisor_leaves_no_process(tmp_path: Path) -> None:
    with stack(tmp_path) as process:
        below = descendants(process.pid)
        commands = [process_table()[pid][1] for pid in below]
        assert any("stubborn.py child" in command for command in commands)
        assert any("checkpointer" in command for command in commands)
        process.kill()
        process.wait()
        assert all_end(below, 15), [process_table().get(pid) for pid in below]


@pytest.mark.skipif(sys.platform != "linux", reason="without the death signal the guard is the only one to tell")
def test_kill_9_of_the_guard_and_then_of_the_supervisor_ends_every_service(tmp_path: Path) -> None:
    with stack(tmp_path) as process:
        guard = _guard_pid(process.pid)
        leaders = {pid for pid, (parent, _) in process_table().items() if parent == process.pid}
        os.kill(guard, signal.SIGKILL)
        process.kill()
        process.wait()
        assert all_end(leaders, 15)


def test_it_comes_up_again_after_kill_9_on_the_same_folder(tmp_path: Path) -> None:
    with stack(tmp_path) as process:
        below = descendants(process.pid)
        process.kill()
        process.wait()
        assert all_end(below, 15)
    (tmp_path / "up").unlink()
    with stack(tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_killed_service_comes_back_by_itself(tmp_path: Path) -> None:
    with stack(tmp_path) as process:
        table = process_table()
        for mark in ("nats-server", "postgres -D"):
            leaders = [pid for pid, (parent, command) in table.items() if parent == process.pid and mark in command]
            os.kill(leaders[0], signal.SIGKILL)

        def ready_again() -> bool:
            changes = lines(tmp_path / "changes")
            return changes.count("broker ready") == 2 and changes.count("postgres ready") == 2

        assert wait_until(ready_again, 30, interval=0.1), lines(tmp_path / "changes")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_second_supervisor_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with stack(tmp_path) as process:
        code = (
            "import sys; from pathlib import Path; from standalone.supervisor import supervise\n"
            "async def story(supervisor): return 0\n"
            "supervise(Path(sys.argv[1]), story)"
        )
        second = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "var")], capture_output=True, text=True, check=False
        )
        assert second.returncode == 1
        assert f"already runs from {tmp_path / 'var'} as process {process.pid}: stop that one first." in second.stderr
