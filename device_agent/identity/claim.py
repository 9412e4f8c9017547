"""A frame's birth: key, claim, certificate, identity.

A cut at any moment is completed by running it again. The key is there before the first request, and the server repeats
its answer for the same token and key; ``frame.json`` is written last, so an identity is there whole or not at all.
"""

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

import msgspec

from device_agent.folder import AgentFolder, FrameFile, read_frame_file
from device_agent.identity.certificates import accept
from device_agent.identity.key import FileKeys, FrameKey, KeyKeeper
from device_agent.identity.server import BirthFailed, BirthServer
from device_agent.settings.address import parse_url
from device_agent.settings.kinds import ConfigError
from device_agent.storage.disk import disk
from device_agent.storage.files import make_folder, read_file, replace_file
from device_agent.tls import Clock, trusting
from device_agent.version import AGENT_VERSION
from protocol.birth import ClaimRequest
from protocol.errors import Refused

SERVER_CA = "server-ca.pem"
"""The authority of the birth endpoint, where the installer named one."""
MAX_CA = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What the installer says. ``ca`` None: ``identity/ca.pem`` of the factory's image if there, else the system's."""

    server: str
    token: str
    hardware: str
    locale: str
    ca: Path | None = None


def claim(folder: AgentFolder, birth: Birth, keys: KeyKeeper | None = None) -> FrameFile:
    """Be born; the frame as it is now. The folder must be locked. Raises ConfigError or BirthFailed, one sentence
    each; run again, it goes on where it stopped."""
    keys = keys if keys is not None else FileKeys()
    digest = hashlib.sha256(birth.token.encode()).hexdigest()
    if disk().size(folder.identity / "frame.json") is not None:
        born = read_frame_file(folder)
        if born.claim == digest:
            return born
        raise ConfigError(
            f"This is frame {born.frame_id} already: move {folder.identity} away to claim another identity."
        )
    make_folder(folder.identity)
    ca = _server_authority(folder, birth.ca)
    key = _key(folder.identity / "key.pem", keys)
    server = BirthServer(birth.server, lambda: _context(ca))
    issued = server.claim(
        ClaimRequest(
            claim=birth.token,
            csr=key.request(""),
            hardware=birth.hardware,
            locale=birth.locale,
            agent_version=AGENT_VERSION,
        )
    )
    try:
        accepted = accept(issued.frame_id, key.public, issued.certificate, issued.ca, None, None)
        if issued.mqtt is not None:
            parse_url(issued.mqtt)
    except (Refused, ValueError) as error:
        raise BirthFailed(f"The server {birth.server} answered with a wrong identity: {error}") from None
    frame = FrameFile(
        frame_id=issued.frame_id,
        locale=issued.locale,
        hardware=issued.hardware,
        mqtt=issued.mqtt,
        server=birth.server,
        system_ca=ca is None,
        claim=digest,
    )
    replace_file(folder.identity / "ca.pem", accepted.ca)
    replace_file(folder.identity / "cert.pem", accepted.certificate)
    replace_file(folder.identity / "frame.json", msgspec.json.format(msgspec.json.encode(frame), indent=1) + b"\n")
    return frame


def server_context(folder: AgentFolder, frame: FrameFile, ca: Path, clock: Clock) -> ssl.SSLContext:
    """For later visits to the endpoint: what vouched for it at birth, and the fleet's authorities ``ca`` of today.
    Raises OSError."""
    context = trusting(None if frame.system_ca else ca, clock)
    named = folder.identity / SERVER_CA
    for extra in (ca, named):
        if disk().size(extra) is not None:
            context.load_verify_locations(cafile=str(extra))
    return context


def _server_authority(folder: AgentFolder, named: Path | None) -> Path | None:
    """Whom to trust; a named file is kept, as renewals in later years need it."""
    kept = folder.identity / SERVER_CA
    if named is not None:
        try:
            with named.open("rb") as file:
                content = file.read(MAX_CA + 1)
            ssl.create_default_context(cadata=content.decode("ascii"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{named} holds no authority's certificate ({error}): give --ca a PEM file.") from None
        if len(content) > MAX_CA:
            raise ConfigError(f"{named} has more than {MAX_CA // 1024} KiB: give --ca the one authority's file.")
        replace_file(kept, content)
    elif disk().size(kept) is None:
        factory = folder.identity / "ca.pem"
        if disk().size(factory) is None:
            return None
        replace_file(kept, read_file(factory, MAX_CA))
    return kept


def _key(path: Path, keys: KeyKeeper) -> FrameKey:
    try:
        return keys.open(path)
    except FileNotFoundError:
        return keys.make(path)


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        return trusting(ca)
    except OSError as error:
        raise BirthFailed(f"{ca} holds no authority that can be trusted ({error}): give --ca another file.") from None
