"""The supervisor with small programs: order, readiness, restarts, one stop, what is said when something fails."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from standalone.processes import ServiceError, free_port
from standalone.service import Restart, Service, State, Status
from standalone.supervisor import INTERRUPTED, Story, Supervisor
from tests.standalone.processes import descendants, is_alive, lines, process_table

QUICK = Restart(first_delay=0.05, max_delay=0.2, attempts=3)
NAP = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


def python(name: str, code: str, **options: Any) -> Service:
    """A service that runs a piece of Python."""
    return Service(name, (sys.executable, "-I", "-S", "-c", code), restart=QUICK, **options)


def supervised(var: Path, story: Story) -> tuple[int, list[Status]]:
    """Run a story in this process; its exit status and every change it caused."""
    changes: list[Status] = []

    async def main() -> int:
        return await asyncio.wait_for(Supervisor(var, changes.append).run(story), 30)

    return asyncio.run(main()), changes


async def until(condition: Any, timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


def writes(path: Path, word: str) -> str:
    return f"open({str(path)!r}, 'a').write({word!r} + chr(10))"


def test_services_start_in_order_when_the_one_before_is_ready_and_stop_in_reverse(tmp_path: Path) -> None:
    journal = tmp_path / "journal"

    def service(name: str) -> Service:
        code = (
            f"import signal, sys, time\ndef stop(*_): {writes(journal, f'{name} ends')}; sys.exit()\n"
            f"signal.signal(signal.SIGTERM, stop); time.sleep(.1); {writes(journal, f'{name} is up')}; time.sleep(60)"
        )
        return python(name, code, ready=lambda: f"{name} is up" in lines(journal))

    async def story(supervisor: Supervisor) -> int:
        for name in ("one", "two", "three"):
            await supervisor.start(service(name))
        return 5

    code, _ = supervised(tmp_path / "var", story)
    assert code == 5
    assert lines(journal) == ["one is up", "two is up", "three is up", "three ends", "two ends", "one ends"]


def test_a_port_is_a_readiness_check(tmp_path: Path) -> None:
    port = free_port()
    code = (
        "import socket, time; time.sleep(.3); s = socket.socket()\n"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        f"s.bind(('127.0.0.1', {port})); s.listen(); time.sleep(60)"
    )

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("web", code, ready=port))
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return 0

    assert supervised(tmp_path, story)[0] == 0


def test_a_crashed_service_is_started_again_and_again_with_longer_pauses(tmp_path: Path) -> None:
    journal = tmp_path / "journal"

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(
            python("shaky", f"{writes(journal, 'life')}; import time; time.sleep(.3); raise SystemExit(7)")
        )
        await until(lambda: len(lines(journal)) >= 4)
        return 0

    _, changes = supervised(tmp_path / "var", story)
    pauses = [change.detail for change in changes if change.state is State.WAITING]
    assert pauses[:3] == [f"shaky ended with exit status 7; started again in {pause} s" for pause in (0.05, 0.1, 0.2)]
    assert max(change.restarts for change in changes) >= 3


def test_a_killed_service_is_started_again_with_a_new_process(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("nap", NAP))
        first = supervisor.status()["nap"].pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.status()["nap"].state is State.READY and supervisor.status()["nap"].restarts)
        assert supervisor.status()["nap"].pid != first
        return 0

    _, changes = supervised(tmp_path, story)
    assert "was killed by SIGKILL" in next(change.detail for change in changes if change.state is State.WAITING)


def test_a_service_that_dies_and_leaves_a_child_behind_is_started_again_without_it(tmp_path: Path) -> None:
    children = tmp_path / "children"
    code = (
        "import subprocess, time; child = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(children)!r}, 'a').write(str(child.pid) + chr(10)); time.sleep(.3); raise SystemExit(1)"
    )

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("leaky", code))
        await until(lambda: len(lines(children)) >= 2)
        assert not is_alive(int(lines(children)[0]))
        return 0

    assert supervised(tmp_path, story)[0] == 0


def test_pauses_are_capped_and_begin_anew_after_a_healthy_life() -> None:
    restart = Restart(first_delay=0.2, max_delay=10.0)
    assert [restart.delay(failures) for failures in (1, 2, 3, 6, 7, 10_000)] == [0.2, 0.4, 0.8, 6.4, 10.0, 10.0]


def test_a_service_that_never_becomes_ready_fails_with_its_last_words(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("lame", "print('the key is missing'); raise SystemExit(3)", ready=lambda: False))
        return 0

    with pytest.raises(
        ServiceError, match=r"lame ended with exit status 3\. The end of .*lame\.log:(.|\n)*key is missing"
    ):
        supervised(tmp_path, story)


def test_a_service_that_is_too_slow_to_be_ready_is_ended(tmp_path: Path) -> None:
    before = descendants(os.getpid())

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("slow", NAP, ready=lambda: False, ready_timeout=0.2))
        return 0

    with pytest.raises(ServiceError, match=r"slow was not ready within 0\.2 s"):
        supervised(tmp_path, story)
    assert descendants(os.getpid()) <= before


def test_a_program_that_does_not_exist_is_said(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(Service("ghost", (str(tmp_path / "ghost"),), restart=QUICK))
        return 0

    with pytest.raises(ServiceError, match=r"There is no program .*ghost.* to start"):
        supervised(tmp_path, story)


def test_a_service_that_will_not_stop_is_killed_after_its_grace(tmp_path: Path) -> None:
    log = tmp_path / "log" / "deaf.log"
    seen: list[int | None] = []

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("deaf", DEAF, grace=0.3, ready=lambda: lines(log) == ["deaf"]))
        seen.append(supervisor.status()["deaf"].pid)
        return 0

    assert supervised(tmp_path, story)[0] == 0
    assert seen[0] is not None
    assert not is_alive(seen[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_wait(tmp_path: Path, number: signal.Signals) -> None:
    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("nap", NAP))
        os.kill(os.getpid(), number)
        return await supervisor.wait()

    before = signal.signal(number, signal.SIG_DFL)  # the run itself may have been started with nohup
    try:
        code, changes = supervised(tmp_path, story)
    finally:
        signal.signal(number, before)
    assert code == 0
    assert changes[-1].state is State.STOPPED


def test_a_signal_in_the_middle_of_the_story_interrupts_it(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("nap", NAP))
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)
        return 0

    code, changes = supervised(tmp_path, story)
    assert code == INTERRUPTED
    assert changes[-1].state is State.STOPPED


def test_a_signal_while_a_service_is_starting_stops_it_too(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> int:
        asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), signal.SIGINT)
        await supervisor.start(python("slow", NAP, ready=lambda: False))
        return 0

    code, changes = supervised(tmp_path, story)
    assert code == INTERRUPTED
    assert changes[-1].state is State.STOPPED


def test_a_second_signal_kills_what_takes_its_time(tmp_path: Path) -> None:
    log = tmp_path / "log" / "deaf.log"

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("deaf", DEAF, grace=60, ready=lambda: lines(log) == ["deaf"]))
        os.kill(os.getpid(), signal.SIGINT)
        asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), signal.SIGINT)
        return await supervisor.wait()

    assert supervised(tmp_path, story)[0] == 0  # within supervised()'s 30 s, not the grace


def test_an_error_in_the_story_still_stops_every_service(tmp_path: Path) -> None:
    seen: list[int | None] = []

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("nap", NAP))
        seen.append(supervisor.status()["nap"].pid)
        raise LookupError("the story went wrong")

    with pytest.raises(LookupError, match="went wrong"):
        supervised(tmp_path, story)
    assert seen[0] is not None
    assert not is_alive(seen[0])


def test_a_service_can_be_stopped_and_started_again(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("nap", NAP))
        with pytest.raises(ServiceError, match="There is a service 'nap' already"):
            await supervisor.start(python("nap", NAP))
        await supervisor.stop("nap")
        assert supervisor.status() == {}
        await supervisor.start(python("nap", NAP))
        return 0

    assert supervised(tmp_path, story)[0] == 0


def test_a_signal_can_be_sent_to_a_service(tmp_path: Path) -> None:
    log = tmp_path / "log" / "ear.log"
    code = (
        "import signal, time; signal.signal(signal.SIGHUP, lambda *_: print('heard', flush=True))\n"
        "print('up', flush=True)\nwhile True: time.sleep(1)"
    )

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("ear", code, ready=lambda: "up" in lines(log)))
        supervisor.send("ear", signal.SIGHUP)
        await until(lambda: "heard" in lines(log))
        return 0

    assert supervised(tmp_path, story)[0] == 0


def test_what_goes_before_runs_before_every_start(tmp_path: Path) -> None:
    calls: list[int] = []

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("nap", NAP, before=lambda: calls.append(1)))
        os.kill(supervisor.status()["nap"].pid or 0, signal.SIGKILL)
        await until(lambda: len(calls) == 2)
        return 0

    assert supervised(tmp_path, story)[0] == 0


def test_a_chatty_services_log_is_bounded(tmp_path: Path) -> None:
    code = "import sys, time\nfor n in range(20000): print(n, 'x' * 90)\nprint('done', flush=True); time.sleep(60)"
    log = tmp_path / "log" / "chatty.log"

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("chatty", code, max_log_bytes=100_000, ready=lambda: "done" in lines(log)[-1:]))
        return 0

    assert supervised(tmp_path, story)[0] == 0
    sizes = [path.stat().st_size for path in (tmp_path / "log").iterdir()]
    assert len(sizes) == 2
    assert all(0 < size <= 100_000 for size in sizes)


def test_the_status_file_tells_each_service_and_the_supervisor(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("nap", NAP))
        told = json.loads((tmp_path / "run" / "status.json").read_text())
        assert told["supervisor_pid"] == os.getpid()
        (service,) = told["services"]
        assert (service["name"], service["state"]) == ("nap", "ready")
        assert is_alive(service["pid"])
        return 0

    assert supervised(tmp_path, story)[0] == 0


def _once(tmp_path: Path, code: str, **options: Any) -> str:
    output: list[str] = []

    async def story(supervisor: Supervisor) -> int:
        output.append(await supervisor.run_once("step", [sys.executable, "-I", "-S", "-c", code], **options))
        return 0

    supervised(tmp_path, story)
    return output[0]


def test_a_command_gives_what_it_printed_and_logs_only_its_errors(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['WORD']); print('careful', file=sys.stderr)"
    assert _once(tmp_path, code, env={"WORD": "a secret"}) == "a secret\n"
    assert (tmp_path / "log" / "step.log").read_text() == "careful\n"


def test_a_command_that_fails_is_said_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"step ended with exit status 1\. The end of .*\n(.|\n)*no such table"):
        _once(tmp_path, "import sys; sys.exit('no such table')")


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"step took longer than 0\.3 s"):
        _once(tmp_path, NAP, timeout=0.3)


def test_a_command_that_prints_without_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="step printed more than 1 MiB"):
        _once(tmp_path, "while True: print('x' * 1000)")


def test_the_guard_is_started_again_when_it_was_killed(tmp_path: Path) -> None:
    def guards() -> list[int]:
        table = process_table()
        return [pid for pid in descendants(os.getpid()) if pid in table and "guard.py" in table[pid][1]]

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(python("one", NAP))
        (first,) = guards()
        os.kill(first, signal.SIGKILL)
        await until(lambda: not guards())
        await supervisor.start(python("two", NAP))
        (second,) = guards()
        assert second != first
        return 0

    assert supervised(tmp_path, story)[0] == 0
    assert guards() == []
