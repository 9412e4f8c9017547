"""One supervised service: start, wait until ready, restart with a growing pause, stop."""

import asyncio
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from standalone.logs import MAX_BYTES, BoundedLog
from standalone.processes import ServiceError, launched, port_answers, signal_group, tail

Ready = int | Callable[[], bool] | None


class State(StrEnum):
    """What a service is doing."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"  # it ended and is started again after a pause
    FAILED = "failed"  # it never became ready
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Restart:
    """How often to try again.

    The pause doubles from ``first_delay`` to ``max_delay`` seconds; a service that ran for ``healthy_after`` seconds
    begins anew. One that ends ``attempts`` times before it was ever ready has failed.
    """

    first_delay: float = 0.2
    max_delay: float = 10.0
    healthy_after: float = 20.0
    attempts: int = 3

    def delay(self, failures: int) -> float:
        """Seconds to wait after the ``failures``-th ending in a row (from 1)."""
        return float(min(self.max_delay, self.first_delay * 2 ** min(failures - 1, 30)))


@dataclass(frozen=True)
class Service:
    """What to run and how to treat it.

    ``env`` is added to the supervisor's environment. ``ready`` is a port on 127.0.0.1, a function (called in a thread),
    or None for "as soon as it runs". ``before`` runs in a thread before each start. ``drop`` is explained in
    ``launch.py``.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    ready: Ready = None
    ready_timeout: float = 30.0
    restart: Restart = Restart()
    before: Callable[[], None] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    drop: str = "none"
    max_log_bytes: int = MAX_BYTES


@dataclass(frozen=True)
class Status:
    """What the supervisor knows of a service. ``detail`` is one sentence, or empty."""

    name: str
    state: State
    pid: int | None = None
    restarts: int = 0
    detail: str = ""
    since: float = 0.0  # Unix time of the last change


class Groups:
    """Where process groups are reported as they begin and end; the supervisor tells its guard."""

    def add(self, pid: int, stop_signal: signal.Signals) -> None: ...

    def remove(self, pid: int) -> None: ...


async def spawn(service: Service, *, stdout: int = PIPE, stderr: int = STDOUT, groups: Groups | None = None) -> Process:
    """Start a service's program in a session of its own, bound to this process's life."""
    process = await asyncio.create_subprocess_exec(
        *launched(service.argv, death_signal=service.stop_signal, drop=service.drop),
        stdin=DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=service.cwd,
        env={**os.environ, **service.env},
        start_new_session=True,
    )
    if groups:
        groups.add(process.pid, service.stop_signal)
    return process


async def is_ready(ready: Ready) -> bool:
    """Ask a readiness check once; one that raises OSError is not ready."""
    if ready is None:
        return True
    if isinstance(ready, int):
        return await asyncio.to_thread(port_answers, ready)
    try:
        return await asyncio.to_thread(ready)
    except OSError:
        return False


class Runner:
    """Keeps one service running until told to stop. ``hurry`` cuts every grace period short."""

    def __init__(
        self, service: Service, log: Path, changed: Callable[[Status], None], groups: Groups, hurry: asyncio.Event
    ) -> None:
        self.service = service
        self.status = Status(service.name, State.STOPPED)
        self._log_path = log
        self._changed = changed
        self._groups = groups
        self._hurry = hurry
        self._stop = asyncio.Event()
        self._settled = asyncio.Event()  # ready once, or failed
        self._task: asyncio.Task[None] | None = None
        self._process: Process | None = None

    async def start(self) -> None:
        """Begin, and return when it is ready. Raises ServiceError with the log's last lines when it never is."""
        self._task = asyncio.create_task(self._keep_running(), name=self.service.name)
        await _first(self._settled.wait(), asyncio.shield(self._task))
        if self._task.done():
            self._task.result()
        if self.status.state is State.FAILED:
            raise ServiceError(self.status.detail)

    async def stop(self) -> None:
        """Ask it to stop, kill its group when it does not; returns when it is gone."""
        self._stop.set()
        if self._task is not None:
            await self._task

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its main process, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def _set(self, state: State, *, pid: int | None = None, restarts: int | None = None, detail: str = "") -> None:
        restarts = self.status.restarts if restarts is None else restarts
        self.status = replace(self.status, state=state, pid=pid, restarts=restarts, detail=detail, since=time.time())
        self._changed(self.status)

    async def _keep_running(self) -> None:
        failures, restart = 0, self.service.restart
        with BoundedLog(self._log_path, self.service.max_log_bytes) as log:
            while not self._stop.is_set():
                began = time.monotonic()
                why = await self._run_once(log)
                if self._stop.is_set():
                    break
                failures = 1 if time.monotonic() - began >= restart.healthy_after else failures + 1
                if not self._settled.is_set() and failures >= restart.attempts:
                    last = tail(self._log_path)
                    self._set(State.FAILED, detail=f"{self.service.name} {why}. The end of {self._log_path}:\n{last}")
                    self._settled.set()
                    return
                pause = restart.delay(failures)
                detail = f"{self.service.name} {why}; started again in {pause:g} s"
                log.write(f"--- {detail}\n".encode())
                self._set(State.WAITING, restarts=self.status.restarts + 1, detail=detail)
                await _first(self._stop.wait(), asyncio.sleep(pause))
        self._set(State.STOPPED)

    async def _run_once(self, log: BoundedLog) -> str:
        """One life of the service; why it ended."""
        try:
            if self.service.before:
                await asyncio.to_thread(self.service.before)
            process = self._process = await spawn(self.service, groups=self._groups)
        except (ServiceError, OSError) as error:
            log.write(f"--- {error}\n".encode())
            return f"could not be started ({error})"
        pump = asyncio.create_task(_pump(process, log))
        why = ""
        try:
            self._set(State.STARTING, pid=process.pid)
            ready = asyncio.create_task(self._until_ready())
            await _first(ready, exited(process), self._stop.wait(), asyncio.sleep(self.service.ready_timeout))
            if process.returncode is None and not self._stop.is_set():
                if ready.done() and not ready.cancelled():
                    self._set(State.READY, pid=process.pid)
                    self._settled.set()
                    await _first(exited(process), self._stop.wait())
                else:
                    why = f"was not ready within {self.service.ready_timeout:g} s"
        finally:
            if process.returncode is None and self._stop.is_set():
                self._set(State.STOPPING, pid=process.pid)
            await end(process, self.service, self._hurry)
            self._groups.remove(process.pid)
            await _first(pump, asyncio.sleep(1.0))
        return why or _ending(process.returncode)

    async def _until_ready(self) -> None:
        while not await is_ready(self.service.ready):
            await asyncio.sleep(0.05)


async def exited(process: Process) -> None:
    """Wait until the process itself has ended.

    ``Process.wait()`` of Python 3.11 and early 3.12 also waits until its output is closed, and a child left behind may
    hold that open for ever.
    """
    while process.returncode is None:
        await asyncio.sleep(0.03)


async def end(process: Process, service: Service, hurry: asyncio.Event | None = None) -> None:
    """Stop a process in order within its grace, then kill what is left of its group."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.send_signal(service.stop_signal)
        waits: list[Awaitable[object]] = [exited(process), asyncio.sleep(service.grace)]
        if hurry is not None:
            waits.append(hurry.wait())
        await _first(*waits)
    signal_group(process.pid, signal.SIGKILL)
    await exited(process)


async def _pump(process: Process, log: BoundedLog) -> None:
    if process.stdout is not None:
        while data := await process.stdout.read(65_536):
            log.write(data)


async def _first(*waits: Awaitable[object]) -> None:
    """Wait until one of these is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit status {code}"
