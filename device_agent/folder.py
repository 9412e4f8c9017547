"""The agent's folder and the frame's identity in it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from device_agent.ports import FrameIdentity, TrialPolicy
from device_agent.settings.kinds import ConfigError
from device_agent.settings.layers import Settings
from device_agent.storage.files import read_file
from device_agent.storage.records import read_record
from device_agent.version import AGENT_VERSION
from protocol.messages import FrameId, Sha256, Word

__all__ = [
    "AgentFolder",
    "ConfigError",
    "FrameFile",
    "agent_folder",
    "alone",
    "broker_url",
    "read_frame_file",
    "read_identity",
    "trial_policy",
]

RUNTIMES = {"onnx": "onnxruntime", "rknn": "rknn-toolkit-lite2"}
"""Name in a ``RuntimeRange`` -> the package that has it."""
MAX_FRAME_JSON = 64 * 1024


class FrameFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``identity/frame.json``. What follows ``simulated`` only a frame born by a claim has: the broker's address, the
    birth endpoint's, whether the system's authorities vouch for that, and the SHA-256 of the claim token."""

    frame_id: FrameId
    locale: Word
    hardware: Word
    simulated: bool = False
    mqtt: str | None = None
    server: str | None = None
    system_ca: bool = False
    claim: Sha256 | None = None


@dataclass(frozen=True, slots=True)
class AgentFolder:
    """Where everything of one frame lives."""

    path: Path

    @property
    def identity(self) -> Path:
        return self.path / "identity"

    @property
    def trust(self) -> Path:
        return self.path / "trust"

    @property
    def journal(self) -> Path:
        return self.path / "journal.json"

    @property
    def epoch(self) -> Path:
        """The floor of the security epoch, where the board has no better place for it."""
        return self.path / "epoch"

    @property
    def outbox(self) -> Path:
        return self.path / "outbox"

    @property
    def media(self) -> Path:
        """Photos and voices, and the films made of them."""
        return self.path / "media"

    @property
    def page(self) -> Path:
        """``local.json``: where the local page answers."""
        return self.path / "local.json"


def agent_folder(setting: Path | None) -> AgentFolder:
    """The folder of the setting ``dir``. Raises ConfigError."""
    if setting is None:
        raise ConfigError("The agent's folder is not known: give --dir or set FRAMEFLEET_AGENT_DIR.")
    path = setting.resolve()
    if not path.is_dir():
        raise ConfigError(
            f"The agent's folder {path} does not exist: claim the frame with `device-agent claim`, which makes it."
        )
    return AgentFolder(path)


def broker_url(setting: str | None, frame: FrameFile) -> str:
    """The address of the setting ``mqtt``, else the one from the frame's birth. Raises ConfigError."""
    address = setting if setting is not None else frame.mqtt
    if address is None:
        raise ConfigError("The broker's address is not known: give --mqtt or set MQTT_URL to mqtts://host:port.")
    return address


def trial_policy(settings: Settings) -> TrialPolicy:
    """When a release on probation is committed."""
    return TrialPolicy(playbacks=settings.trial_playbacks, healthy_s=settings.trial_healthy_hours * 3_600)


def read_frame_file(folder: AgentFolder) -> FrameFile:
    """``identity/frame.json``. Raises ConfigError."""
    path = folder.identity / "frame.json"
    try:
        return read_record(read_file(path, MAX_FRAME_JSON), FrameFile)
    except OSError as error:
        claim = "claim the frame first, with `device-agent claim`"
        raise ConfigError(f"{path} cannot be read ({error.strerror}): {claim}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not as enrolment writes it ({error}): enrol the frame again.") from error


def read_identity(folder: AgentFolder, agent: str | None = None) -> FrameIdentity:
    """Who the frame is; ``agent`` as in ``FrameIdentity``. Raises ConfigError."""
    frame = read_frame_file(folder)
    return FrameIdentity(
        frame.frame_id, frame.hardware, frame.locale, AGENT_VERSION, frame.simulated, installed_runtimes(), agent
    )


def installed_runtimes() -> dict[str, str]:
    """Which inference runtimes there are, and their versions; loads none of them."""
    found: dict[str, str] = {}
    for name, package in RUNTIMES.items():
        with suppress(PackageNotFoundError):
            found[name] = version(package)
    return found


@contextmanager
def alone(folder: AgentFolder) -> Iterator[None]:
    """One agent per folder. Raises ConfigError when there is one already."""
    with (folder.path / "agent.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"An agent runs on {folder.path} already: stop it first.") from None
        yield
