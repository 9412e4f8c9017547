"""The supervisor's last will, alone."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from standalone import guard
from standalone.processes import wait_until
from tests.standalone.processes import is_alive, lines


def test_lines_keep_the_table_of_groups() -> None:
    groups: dict[int, int] = {}
    for line in ("+10 15\n", "+11 2\n", "nonsense\n", "+x y\n", "+12\n", "-\n", "-10\n", "-99\n"):
        guard.read_line(line, groups)
    assert groups == {11: 2}


def _sleeper(folder: Path, code: str) -> subprocess.Popen[bytes]:
    journal = folder / "journal"
    program = f"{code}\nopen({str(journal)!r}, 'a').write('up' + chr(10)); import time; time.sleep(60)"
    before = len(lines(journal))
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", program], start_new_session=True)
    assert wait_until(lambda: len(lines(journal)) > before, 10)
    return process


def test_groups_that_do_not_stop_are_killed_and_others_are_left_alone(tmp_path: Path) -> None:
    deaf = _sleeper(tmp_path, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    stranger = _sleeper(tmp_path, "")
    try:
        began = time.monotonic()
        guard.end({deaf.pid: int(signal.SIGTERM)}, grace=0.3)
        assert 0.25 < time.monotonic() - began < 5
        assert deaf.wait(5) == -signal.SIGKILL
        assert is_alive(stranger.pid)
    finally:
        for process in (deaf, stranger):
            process.kill()
            process.wait()


def test_groups_that_are_gone_cost_no_time(tmp_path: Path) -> None:
    gone = _sleeper(tmp_path, "")
    gone.kill()
    gone.wait()
    began = time.monotonic()
    guard.end({gone.pid: int(signal.SIGTERM)}, grace=10)
    assert time.monotonic() - began < 2
