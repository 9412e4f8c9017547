"""What lies in deploy/ fits the agent: the example's settings are real, and systemd takes the unit as it is."""

import configparser
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from device_agent.settings.layers import Settings, load

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "framefleet-agent.service"
EXAMPLE = DEPLOY / "agent.toml.example"

pytestmark = pytest.mark.skipif(not UNIT.exists(), reason="the agent alone carries no deploy/")


def unit() -> dict[str, str]:
    """The service's last value for each key."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return dict(parser["Service"])


def test_the_example_shows_every_setting_and_only_a_frame_differs_from_the_defaults() -> None:
    shown = load({}, {}, EXAMPLE).settings
    text = EXAMPLE.read_text()
    assert set(tomllib.loads(text)) | set(re.findall(r"^# (\w+) = ", text, re.MULTILINE)) == set(
        Settings.__dataclass_fields__
    ), "what has no default is shown as a comment"
    different = {name for name in Settings.__dataclass_fields__ if getattr(shown, name) != getattr(Settings(), name)}
    assert different == {"dir", "port", "sink"}


def test_the_unit_lets_the_agent_write_where_the_example_puts_it_and_gives_the_renderer_room() -> None:
    service, shown = unit(), load({}, {}, EXAMPLE).settings
    assert str(shown.dir) == service["ReadWritePaths"] == f"/var/lib/{service['StateDirectory']}"
    most = int(service["MemoryMax"].removesuffix("M"))
    assert shown.renderer_memory_mb + 200 <= int(service["MemoryHigh"].removesuffix("M")) < most
    assert service["OOMPolicy"] == "continue", "a renderer that the kernel ends must not end the agent"
    command = service["ExecStart"].split()
    assert command[1:] == ["run", "--config", "/etc/framefleet/agent.toml"]


def test_restarts_never_reach_the_limit_that_would_leave_a_frame_dark() -> None:
    text, service = UNIT.read_text(), unit()
    (interval,) = re.findall(r"^StartLimitIntervalSec=(\d+)$", text, re.MULTILINE)
    (burst,) = re.findall(r"^StartLimitBurst=(\d+)$", text, re.MULTILINE)
    assert int(service["RestartSec"]) * int(burst) > int(interval)


def test_systemd_reads_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze here")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/framefleet/bin/device-agent", "/bin/true"))
    environment = os.environ | {"SYSTEMD_COLORS": "0", "SYSTEMD_EMOJI": "0"}

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [analyze, *arguments, str(copy)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    verified = ask("verify", "--man=no")
    ours = [line for line in verified.stderr.splitlines() if UNIT.name in line]
    assert (verified.returncode, ours) == (0, [])
    rated = ask("security", "--offline=true", "--no-pager")
    if rated.returncode and "offline" in rated.stderr:
        pytest.skip("this systemd-analyze cannot rate a file")
    (exposure,) = re.findall(r"exposure level for \S+: ([\d.]+)", rated.stdout)
    assert float(exposure) < 2.0
