"""A real browser for tests: Chromium without a window, spoken to over a pair of pipes (its DevTools protocol).

Use::

    with chromium(tmp_path) as browser:
        page = browser.open("http://127.0.0.1:8000/", cookies={"sessionid": "..."})
        page.violations  # what the page's content security policy has stopped
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 30.0
BINARIES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-dev-shm-usage", "--disable-default-apps", "--remote-debugging-pipe",
)  # fmt: skip


@dataclass
class Page:
    """One page that has loaded: its text as the browser has it, and what went wrong on it."""

    html: str
    violations: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Browser:
    """A running Chromium."""

    def __init__(self, process: "subprocess.Popen[bytes]", commands: int, answers: int) -> None:
        self._process, self._commands, self._answers = process, commands, answers
        self._number = 0
        self._buffer = b""
        self._events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")

    def call(self, method: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer of one command to the page."""
        return self._call(method, parameters or {}, self._session)

    def evaluate(self, expression: str) -> Any:
        """The value of a script that the page itself could not run."""
        found = self.call("Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True})
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, url: str, *, cookies: Mapping[str, str] | None = None, settle_s: float = 0.1) -> Page:
        """Load ``url``, let its scripts run for ``settle_s``, and say what happened."""
        for name, value in (cookies or {}).items():
            self.call("Network.setCookie", {"name": name, "value": value, "url": url})
        self._events.clear()
        self.call("Page.navigate", {"url": url})
        self.wait_for("Page.loadEventFired")
        return self.look(settle_s)

    def wait_for(self, event: str) -> None:
        """Until the page says so; what it said before this was last waited for does not count."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for index, message in enumerate(self._events):
                if message["method"] == event:
                    del self._events[index]
                    return
            self._events.append(self._read(deadline))

    def look(self, settle_s: float = 0.1) -> Page:
        """What the page shows and what has gone wrong since it began to load."""
        with contextlib.suppress(TimeoutError):
            deadline = time.monotonic() + settle_s
            while True:
                self._events.append(self._read(deadline))
        page = Page(self.evaluate("document.documentElement.outerHTML"))
        for event in self._events:
            _judge(page, event["method"], event["params"])
        return page

    def _call(self, method: str, parameters: Mapping[str, Any], session: str | None = None) -> dict[str, Any]:
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            message = self._read(deadline)
            if message.get("id") == self._number:
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found
            if "method" in message:
                self._events.append(message)

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise TimeoutError
            piece = os.read(self._answers, 1 << 16)
            assert piece, "the browser has gone"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A Chromium with an empty profile below ``folder``. Without one the test is skipped; with CI=true that fails."""
    binary = next((found for name in BINARIES if (found := shutil.which(name))), None)
    if binary is None:
        if os.environ.get("CI"):
            raise AssertionError(f"No browser: install one of {', '.join(BINARIES)}.")
        pytest.skip("no Chromium on this machine")
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()

    def pipes() -> None:  # the protocol's own numbers
        os.dup2(read_commands, 3)
        os.dup2(write_answers, 4)

    # Higher numbers first, so that the two above never hit a pipe that is still needed.
    read_commands, write_answers = (_high(one) for one in (read_commands, write_answers))
    process = subprocess.Popen(
        [binary, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
        preexec_fn=pipes,
        close_fds=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
    )
    os.close(read_commands)
    os.close(write_answers)
    try:
        yield Browser(process, commands, answers)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(commands)
        os.close(answers)


def _high(number: int) -> int:
    import fcntl

    moved = fcntl.fcntl(number, fcntl.F_DUPFD, 100)
    os.close(number)
    os.set_inheritable(moved, True)
    return moved


def _judge(page: Page, method: str, said: dict[str, Any]) -> None:
    if method == "Audits.issueAdded" and said["issue"]["code"] == "ContentSecurityPolicyIssue":
        found = said["issue"]["details"]["contentSecurityPolicyIssueDetails"]
        page.violations.append(f"{found['violatedDirective']} {found.get('blockedURL', 'inline')}")
    elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
        page.errors.append(said["entry"]["text"])
    elif method == "Runtime.exceptionThrown":
        page.errors.append(said["exceptionDetails"]["text"])
