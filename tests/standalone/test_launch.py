"""Bound to its parent's life, dropped as asked, then the program itself."""

import os
import signal
import subprocess
import sys

import pytest

from standalone.launch import EX_CANNOT_DROP
from standalone.processes import ServiceError, command_of, free_port, launched, port_answers, wait_until
from tests.standalone.processes import all_end


def _run(argv: list[str], **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(launched(argv, **options), capture_output=True, text=True, check=False)  # type: ignore[arg-type]


def test_the_program_takes_the_place_of_the_launcher_with_its_arguments() -> None:
    done = _run(["sh", "-c", "echo $1; exit 4", "sh", "two words"])
    assert (done.stdout, done.returncode) == ("two words\n", 4)


def test_a_program_that_does_not_exist_is_said() -> None:
    with pytest.raises(ServiceError, match="There is no program 'no-such-program' to start: run 'make setup'"):
        launched(["no-such-program"])


def test_nothing_is_run_when_the_parent_is_gone_already() -> None:
    done = subprocess.run(launched(["echo", "late"], parent=2**22 + 1), capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may change to any user")
def test_a_drop_that_is_not_allowed_is_said() -> None:
    done = _run(["true"], drop="user:0:0")
    assert done.returncode == EX_CANNOT_DROP
    assert "cannot drop root by user:0:0" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_becomes_the_user_with_no_other_groups() -> None:
    done = _run(["sh", "-c", "id -u; id -g; id -G"], drop="user:65534:65533")
    assert done.stdout.split() == ["65534", "65533", "65533"]


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="Linux capabilities, and only root has them")
def test_reach_keeps_the_right_to_pass_closed_folders_and_no_other() -> None:
    plain = _run(["grep", "CapEff", "/proc/self/status"], drop="user:65534:65534")
    reach = _run(["grep", "CapEff", "/proc/self/status"], drop="user:65534:65534:reach")
    assert int(plain.stdout.split()[1], 16) == 0
    assert int(reach.stdout.split()[1], 16) == 1 << 1


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
@pytest.mark.parametrize("drop", ["none", "namespace:65534", "user:65534:65534", "user:65534:65534:reach"])
def test_the_program_ends_with_its_parent_whatever_was_dropped(drop: str) -> None:
    if drop != "none" and os.geteuid() != 0:
        pytest.skip("only root has anything to drop")
    code = (
        "import subprocess, sys, time; from standalone.processes import launched\n"
        "child = subprocess.Popen(launched(['sh', '-c', 'echo up; exec sleep 60'], drop=sys.argv[1]), "
        "stdout=subprocess.PIPE, start_new_session=True)\n"
        "print(child.pid, child.stdout.readline().decode().strip(), flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, drop], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    words = parent.stdout.readline().split()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    if len(words) == 1:
        pytest.skip(f"this machine does not allow {drop}")
    assert words[1] == "up"
    assert all_end({int(words[0])}, 5)


def test_a_free_port_is_free() -> None:
    assert not port_answers(free_port())


def test_the_command_of_a_process_is_known_while_it_lives() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert wait_until(lambda: "sleep 60" in (command_of(process.pid) or ""), 5)
    finally:
        process.kill()
        process.wait()
    assert command_of(process.pid) is None
