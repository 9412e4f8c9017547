"""Mosquitto as ``deploy/mosquitto`` sets it up, with paths and port of a test."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from standalone.processes import RunningProcess, free_port, port_answers, tail, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy" / "mosquitto"
PLUGIN = "mosquitto_dynamic_security.so"


def find_mosquitto() -> Path:
    """The broker's program. Skips the test when there is none; with CI=true that fails it."""
    found = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("Mosquitto is not installed: apt-get install mosquitto.")
        pytest.skip("Mosquitto is not installed (apt-get install mosquitto)")
    return Path(found)


class Mosquitto:
    """One broker below ``folder``, which holds ``ca.pem``, ``server.pem``, ``server-key.pem`` and ``crl.pem``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "mosquitto.log"
        self.pid_file = folder / "mosquitto.pid"
        self._process: RunningProcess | None = None
        for name in ("acl", "dynamic-security.json"):
            shutil.copyfile(DEPLOY / name, folder / name)
        text = (DEPLOY / "mosquitto.conf").read_text()
        for shipped, own in (
            ("/etc/framefleet", str(folder)),
            ("/var/lib/mosquitto", str(folder)),
            ("/run/mosquitto", str(folder)),
            ("listener 8883", f"listener {self.port} 127.0.0.1"),
            ("/usr/lib/x86_64-linux-gnu/" + PLUGIN, str(_plugin())),
        ):
            assert shipped in text, shipped
            text = text.replace(shipped, own)
        # Started by root it becomes the user "mosquitto", who may not read a test's folder.
        (folder / "mosquitto.conf").write_text(text + ("user root\n" if os.getuid() == 0 else ""))

    @property
    def url(self) -> str:
        return f"mqtts://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = RunningProcess([str(find_mosquitto()), "-c", str(self.folder / "mosquitto.conf")], log=self.log)
        assert wait_until(lambda: port_answers(self.port), 10), tail(self.log)
        assert self._process.exit_code() is None, tail(self.log)

    def reload(self) -> None:
        """SIGHUP; the loop reads its files within a turn."""
        assert self._process is not None
        self._process.send(signal.SIGHUP)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill9(self) -> None:
        assert self._process is not None
        self._process.kill9()


def _plugin() -> Path:
    """Where the distribution put the plugin."""
    machine = os.uname().machine
    for place in (f"/usr/lib/{machine}-linux-gnu", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib"):
        if (found := Path(place) / PLUGIN).exists():
            return found
    pytest.skip(f"{PLUGIN} is not installed on {sys.platform}")
