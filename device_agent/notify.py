"""Tells the service manager how the agent is: systemd's notification protocol, datagrams on a unix socket.

Without a service manager (no NOTIFY_SOCKET) nothing is sent. Whoever feeds the watchdog must be the loop that does the
work: then one that hangs is ended and started again.
"""

import logging
import os
import socket
from collections.abc import MutableMapping

log = logging.getLogger(__name__)

MAX_STATUS = 200
"""Characters of a status line."""


class Notifier:
    """``address`` is NOTIFY_SOCKET's (None: say nothing), ``watchdog_s`` the time within which a beat is expected."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address is not None and address.startswith("@") else address
        self._beat_every_s = watchdog_s / 3 if watchdog_s is not None else None
        self._beat_at = 0.0
        self._status = ""
        self._complained = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> "Notifier":
        """What the service manager asks for; its variables are taken out, so that no child process speaks for us."""
        address = environment.pop("NOTIFY_SOCKET", None)
        pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
        microseconds = environment.pop("WATCHDOG_USEC", "")
        ours = pid == str(os.getpid()) and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address or None, int(microseconds) / 1e6 if ours else None)

    def ready(self, status: str) -> None:
        """The agent has started."""
        self._status = _line(status)
        self._send(f"READY=1\nSTATUS={self._status}")

    def status(self, status: str) -> None:
        """One line for people; sent when it has changed."""
        if (line := _line(status)) != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def beat(self, now: float, *, at_once: bool = False) -> None:
        """Feed the watchdog when it is time; ``now`` is monotonic seconds. May be called as often as one likes."""
        if self._beat_every_s is not None and (at_once or now >= self._beat_at):
            self._beat_at = now + self._beat_every_s
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The agent is about to end."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
                speaker.setblocking(False)  # a service manager that does not listen must not stop the agent
                speaker.sendto(text.encode(), self._address)
        except OSError as error:
            if not self._complained:
                log.warning("The service manager cannot be told anything: %s", error)
            self._complained = True


def _line(text: str) -> str:
    return " ".join(text.split())[:MAX_STATUS]
