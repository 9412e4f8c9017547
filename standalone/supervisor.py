"""Every service of one machine under one process: started in order, kept running, stopped in reverse.

Use::

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(postgres)                  # returns when it is ready
        await supervisor.run_once("migrate", [...])       # a command that must succeed
        await supervisor.start(broker)
        return await supervisor.wait()                    # until Ctrl-C

    exit_status = supervise(var, story)

Each service is a session of its own, so Ctrl-C reaches the supervisor alone and it can stop PostgreSQL last. When the
supervisor is killed, the kernel signals its children (Linux) and ``guard.py`` ends what is left of their groups.
"""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from standalone import guard
from standalone.logs import BoundedLog
from standalone.processes import ServiceError, tail
from standalone.service import Groups, Runner, Service, Status, end, exited, spawn

MAX_OUTPUT_BYTES = 1024 * 1024
INTERRUPTED = 130  # the shell's exit status after Ctrl-C

Story = Callable[["Supervisor"], Awaitable[int]]


class Guard(Groups):
    """Our end of the pipe to ``guard.py``, which is started again when somebody ends it."""

    def __init__(self) -> None:
        self._groups: dict[int, signal.Signals] = {}
        self._process: subprocess.Popen[str] | None = None

    def add(self, pid: int, stop_signal: signal.Signals) -> None:
        self._groups[pid] = stop_signal
        self._tell(f"+{pid} {int(stop_signal)}\n")

    def remove(self, pid: int) -> None:
        self._groups.pop(pid, None)
        self._tell(f"-{pid}\n")

    def close(self) -> None:
        """End the guard; groups it still knows are ended with it."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
            self._process.wait(guard.GRACE_S + 5)

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.poll() is None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.write(line)
                self._process.stdin.flush()
                return
        # None yet, or it was killed: begin with all that run now.
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(guard.__file__).resolve())],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._process = process
        if process.stdin is not None:
            process.stdin.writelines(f"+{pid} {int(number)}\n" for pid, number in self._groups.items())
            process.stdin.flush()


class Supervisor:
    """See the module.

    Keeps ``var/log/<service>.log``, ``var/run/status.json`` and a lock, so that two never share a folder.
    """

    def __init__(self, var: Path, on_change: Callable[[Status], None] | None = None) -> None:
        self.var = var
        self.log_dir = var / "log"
        self._run_dir = var / "run"
        self._on_change = on_change
        self._guard = Guard()
        self._runners: dict[str, Runner] = {}
        self._stop_asked = asyncio.Event()
        self._hurry = asyncio.Event()
        self._idle = False

    async def start(self, service: Service) -> None:
        """Start a service and return when it is ready. Raises ServiceError when it fails or the name is taken."""
        if service.name in self._runners:
            raise ServiceError(f"There is a service {service.name!r} already.")
        log = self.log_dir / f"{service.name}.log"
        runner = self._runners[service.name] = Runner(service, log, self._changed, self._guard, self._hurry)
        await runner.start()

    async def stop(self, name: str) -> None:
        """Stop one service and forget it; it can be started again."""
        await self._runners[name].stop()
        del self._runners[name]

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a service's main process: SIGHUP makes the broker read its users again."""
        self._runners[name].send(number)

    def status(self) -> dict[str, Status]:
        """Each service by name, in the order of their start."""
        return {name: runner.status for name, runner in self._runners.items()}

    async def run_once(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 120.0,
    ) -> str:
        """Run a command to its end; what it printed on standard output (its errors go to ``var/log/<name>.log``).

        Raises ServiceError when it fails, prints more than 1 MiB, or takes longer than ``timeout`` seconds.
        """
        service = Service(name, tuple(argv), env or {}, cwd, grace=2.0)
        log_path = self.log_dir / f"{name}.log"
        with BoundedLog(log_path) as log:
            process = await spawn(service, stdout=subprocess.PIPE, stderr=subprocess.PIPE, groups=self._guard)
            if process.stdout is None or process.stderr is None:
                raise RuntimeError("pipes were asked for")
            errors = asyncio.create_task(_copy(process.stderr, log))
            output = bytearray()
            problem = ""
            try:
                async with asyncio.timeout(timeout):
                    while not problem and (data := await process.stdout.read(65_536)):
                        output += data
                        if len(output) > MAX_OUTPUT_BYTES:
                            problem = "printed more than 1 MiB"
                    if not problem:
                        await exited(process)
            except TimeoutError:
                problem = f"took longer than {timeout:g} s"
            finally:
                await end(process, service, self._hurry)
                self._guard.remove(process.pid)
                await asyncio.wait({errors}, timeout=1.0)
                errors.cancel()
        text = output.decode(errors="replace")
        if problem or process.returncode != 0:
            problem = problem or f"ended with exit status {process.returncode}"
            last = tail(log_path) or "\n".join(text.splitlines()[-15:])
            raise ServiceError(f"{name} {problem}. The end of {log_path}:\n{last}")
        return text

    async def wait(self) -> int:
        """Stay up until SIGINT, SIGTERM or SIGHUP; gives exit status 0, as this is how a person ends it."""
        self._idle = True
        await self._stop_asked.wait()
        return 0

    def ask_to_stop(self) -> None:
        """What SIGINT does: once stops in order, a second time kills what still runs."""
        if self._stop_asked.is_set():
            self._hurry.set()
        self._stop_asked.set()

    async def run(self, story: Story) -> int:
        """Run ``story``, then stop every service in reverse; the exit status of the story, 130 when interrupted."""
        self._run_dir.mkdir(parents=True, exist_ok=True)
        lock = _lock(self._run_dir / "supervisor.lock")
        loop = asyncio.get_running_loop()
        signals = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to outlive the terminal
            signals.append(signal.SIGHUP)
        for number in signals:
            loop.add_signal_handler(number, self.ask_to_stop)
        task = asyncio.ensure_future(story(self))
        asked = asyncio.create_task(self._stop_asked.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not self._idle:
                task.cancel()
            try:
                return await task
            except asyncio.CancelledError:
                if not self._stop_asked.is_set():
                    raise
                return INTERRUPTED
        finally:
            asked.cancel()
            for runner in reversed(list(self._runners.values())):
                await runner.stop()
            self._guard.close()
            for number in signals:
                loop.remove_signal_handler(number)
            os.close(lock)

    def _changed(self, status: Status) -> None:
        content = {
            "supervisor_pid": os.getpid(),
            "written_at": time.time(),
            "services": [asdict(runner.status) for runner in self._runners.values()],
        }
        fresh = self._run_dir / "status.json.new"
        with suppress(OSError):  # a full disk must not end the services
            fresh.write_text(json.dumps(content, indent=1))
            fresh.replace(self._run_dir / "status.json")
        if self._on_change:
            self._on_change(status)


async def _copy(stream: asyncio.StreamReader, log: BoundedLog) -> None:
    while data := await stream.read(65_536):
        log.write(data)


def _lock(path: Path) -> int:
    """Hold the file's lock as long as the descriptor is open; the kernel lets go of it when we die."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise ServiceError(
            f"framefleet already runs from {path.parent.parent} as process {holder}: stop that one first."
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def supervise(var: Path, story: Story, on_change: Callable[[Status], None] | None = None) -> int:
    """Run ``story`` under a new supervisor; the exit status. Raises ServiceError after everything has stopped."""

    async def main() -> int:
        return await Supervisor(var, on_change).run(story)

    return asyncio.run(main())
