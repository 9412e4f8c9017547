"""The agent's folder and the frame's identity in it."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from device_agent.ports import FrameIdentity, TrialPolicy
from device_agent.settings.kinds import ConfigError
from device_agent.settings.layers import Settings
from device_agent.transport import TlsFiles
from protocol.messages import FrameId, Word

__all__ = [
    "AGENT_VERSION",
    "AgentFolder",
    "ConfigError",
    "agent_folder",
    "broker_url",
    "certified_identity",
    "read_identity",
    "trial_policy",
]

AGENT_VERSION = "0.1.0"
MAX_FRAME_JSON = 64 * 1024


class FrameFile(msgspec.Struct, frozen=True):
    """``identity/frame.json``."""

    frame_id: FrameId
    locale: Word
    hardware: Word
    simulated: bool = False


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

    @property
    def tls(self) -> TlsFiles:
        return TlsFiles(self.identity / "ca.pem", self.identity / "cert.pem", self.identity / "key.pem")


def agent_folder(setting: Path | None) -> AgentFolder:
    """The folder of the setting ``dir``. Raises ConfigError."""
    if setting is None:
        raise ConfigError("The agent's folder is not known: give --dir or set FRAMEFLEET_AGENT_DIR.")
    path = setting.resolve()
    if not path.is_dir():
        raise ConfigError(f"The agent's folder {path} does not exist: enrol the frame and put its identity there.")
    return AgentFolder(path)


def broker_url(setting: str | None) -> str:
    """The address of the setting ``mqtt``. Raises ConfigError."""
    if setting is None:
        raise ConfigError("The broker's address is not known: give --mqtt or set MQTT_URL to mqtts://host:port.")
    return setting


def trial_policy(settings: Settings) -> TrialPolicy:
    """When a release on probation is committed."""
    return TrialPolicy(playbacks=settings.trial_playbacks, healthy_s=settings.trial_healthy_hours * 3_600)


def read_identity(folder: AgentFolder) -> FrameIdentity:
    """Who the frame is. Raises ConfigError."""
    path = folder.identity / "frame.json"
    try:
        with path.open("rb") as file:
            frame = msgspec.json.decode(file.read(MAX_FRAME_JSON), type=FrameFile)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): enrol the frame first.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not as enrolment writes it ({error}): enrol the frame again.") from error
    return FrameIdentity(frame.frame_id, frame.hardware, frame.locale, AGENT_VERSION, frame.simulated)


def certified_identity(folder: AgentFolder) -> str:
    """The frame id in the certificate: its one SAN DNS name. Raises ConfigError."""
    path = folder.tls.cert
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
        if not isinstance(names, x509.SubjectAlternativeName):
            raise ValueError("its names cannot be read")
        (name,) = names.get_values_for_type(x509.DNSName)
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise ConfigError(f"The certificate {path} names no frame ({error}): enrol the frame again.") from error
    return name
