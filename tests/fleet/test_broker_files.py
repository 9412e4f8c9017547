"""Who is sent SIGHUP, and who would die of it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.broker_files import tell

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell what a process handles")

BROKER = """
import os, signal, sys
open("/proc/self/comm", "w").write(sys.argv[1])
print("up", flush=True)
sys.stdin.readline()
signal.signal(signal.SIGHUP, lambda *_: os.write(1, b"reads its files\\n"))
print("listens", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with started("mosquitto", tmp_path) as process:
        yield process
        process.kill()


def started(name: str, folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BROKER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    (folder / "pid").write_text(str(process.pid))
    return process


def test_a_broker_that_does_not_handle_the_signal_yet_is_told_later(
    starting: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert starting.stdin is not None
    assert starting.stdout is not None
    assert tell(tmp_path / "pid") is None
    starting.stdin.write("\n")
    starting.stdin.flush()
    assert starting.stdout.readline() == "listens\n"  # it lived
    assert tell(tmp_path / "pid") == starting.pid
    assert starting.stdout.readline() == "reads its files\n"


def test_a_stranger_with_the_brokers_old_number_is_left_alone(tmp_path: Path) -> None:
    with started("a-stranger", tmp_path) as process:
        assert tell(tmp_path / "pid") is None
        process.kill()


def test_no_file_and_no_process_are_nobody(tmp_path: Path) -> None:
    assert tell(tmp_path / "pid") is None
    (tmp_path / "pid").write_text("not a number")
    assert tell(tmp_path / "pid") is None
