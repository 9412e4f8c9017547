"""Starting and stopping one program, and what services on one machine share: ports, drops, log tails."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from standalone import launch

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)
_LAUNCH = str(Path(launch.__file__).resolve())


class ServiceError(Exception):
    """A service cannot be set up or started; the message is one sentence for the person at the terminal."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on now, below those that systems give to outgoing connections.

    So a service that starts again finds its own port free. Another program may still take it before its user does.
    """
    for port in (*random.sample(PORTS, 50), 0):  # 0: whichever the system has left
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise OSError("No TCP port is free on 127.0.0.1: end a program that holds many.")


def port_answers(port: int, timeout: float = 0.5) -> bool:
    """Whether something accepts TCP connections on 127.0.0.1:``port``."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout):
            return True
    except OSError:
        return False


def launched(
    argv: Sequence[str],
    *,
    death_signal: signal.Signals = signal.SIGKILL,
    drop: str = "none",
    parent: int | None = None,
) -> list[str]:
    """The command line that runs ``argv`` bound to the life of ``parent`` (by default this process), dropped as asked.

    Raises ServiceError when the program does not exist.
    """
    program = shutil.which(argv[0])
    if program is None:
        raise ServiceError(f"There is no program {argv[0]!r} to start: run 'make setup'.")
    parent = os.getpid() if parent is None else parent
    fixed = [sys.executable, "-I", "-S", _LAUNCH, str(parent), str(int(death_signal)), drop]
    return [*fixed, os.path.abspath(program), *argv[1:]]


def tail(path: Path, lines: int = 15, max_bytes: int = 16_384) -> str:
    """The last ``lines`` lines of a log, or an empty string when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - max_bytes))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def wait_until(condition: Callable[[], bool], timeout: float, interval: float = 0.02) -> bool:
    """Ask ``condition`` until it holds or ``timeout`` seconds have passed; the last answer."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


def command_of(pid: int) -> str | None:
    """The command line of a living process, or None when there is none."""
    if Path("/proc/self").exists():  # small images have no ps
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return None
        return raw.replace(b"\0", b" ").decode(errors="replace").strip() or None
    done = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the whole process group of a service; nothing when it is gone already."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


class RunningProcess:
    """One program in its own session and process group, logging to a file; ends with the thread that started it."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        death_signal: signal.Signals = signal.SIGKILL,
        drop: str = "none",
        env: Mapping[str, str] | None = None,
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                launched(argv, death_signal=death_signal, drop=drop),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else {**os.environ, **env},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, grace: float = 10.0) -> None:
        """Ask it to stop; after ``grace`` seconds kill its whole group."""
        self.send(number)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(grace)
        self.kill9()

    def kill9(self) -> None:
        """Kill its whole process group at once."""
        signal_group(self._popen.pid, signal.SIGKILL)
        self._popen.wait(10)


class Startable:
    """A server that may also be run without a supervisor: ``_process`` is set once it was started."""

    def __init__(self, stop_signal: signal.Signals) -> None:
        self._stop_signal = stop_signal
        self._process: RunningProcess | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id when ``start()`` started it."""
        return None if self._process is None else self._process.pid

    def stop(self, grace: float = 20.0) -> None:
        """Stop in order; killed after ``grace`` seconds."""
        if self._process is not None:
            self._process.stop(self._stop_signal, grace)
            self._process = None

    def kill9(self) -> None:
        """Kill it as a power cut would."""
        if self._process is not None:
            self._process.kill9()
            self._process = None
