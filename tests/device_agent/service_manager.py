"""A service manager's ear, and what a process holds."""

import socket
from pathlib import Path
from types import TracebackType
from typing import Self

HEAVY = ("numpy", "cv2", "onnxruntime", "av", "soundfile", "PIL")
"""Libraries that only rendering needs."""


class ServiceManager:
    """Listens the way systemd does: datagrams on a unix socket, whose ``address`` may be abstract (``@name``)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """What came since the last call."""
        said = []
        while True:
            try:
                said.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def loaded(pid: int) -> list[str]:
    """Which of the heavy libraries are mapped into the process."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return [name for name in HEAVY if f"/{name}/" in maps or f"/{name}.libs/" in maps]
