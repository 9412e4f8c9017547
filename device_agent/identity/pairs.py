"""Key and certificate on disk, and the step from one pair to the next, which a cut at any moment survives.

``identity/{key,cert,ca}.pem``            the pair the frame was born with
``identity/{key,cert,ca}-<serial>.pem``   later ones
``identity/current.json``                 which one counts; without it, the one from birth
``identity/next-key.pem``                 the key that a certificate is being asked for

A new pair is complete on disk before ``current.json`` names it, and the pair before it stays until the new one has
connected once: a certificate that the broker does not take must not be the frame's last one.
"""

import logging
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography import x509

from device_agent.identity.certificates import Accepted, name_in, read, serial_of
from device_agent.identity.key import FileKeys, FrameKey, KeyKeeper
from device_agent.settings.kinds import ConfigError
from device_agent.storage.disk import disk
from device_agent.storage.files import read_file, remove, replace_file, sync_folder
from device_agent.storage.records import read_record
from device_agent.tls import Clock, trusting
from protocol.errors import Reason, Refused

log = logging.getLogger(__name__)

BIRTH = ""
"""Name of the pair from birth."""
MAX_FILE = 64 * 1024
_SERIAL = re.compile(r"[0-9a-f]{1,40}")
_PART = re.compile(r"(key|cert|ca)(?:-([0-9a-f]{1,40}))?\.pem")


class Current(msgspec.Struct, frozen=True):
    """``current.json``: the pair that counts, and the one before it while the new one has not connected yet."""

    pair: str
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """One key with its certificate, and the authorities to trust with it."""

    name: str
    folder: Path

    @property
    def key(self) -> Path:
        return self._path("key")

    @property
    def cert(self) -> Path:
        return self._path("cert")

    @property
    def ca(self) -> Path:
        return self._path("ca")

    def _path(self, kind: str) -> Path:
        return self.folder / (f"{kind}.pem" if self.name == BIRTH else f"{kind}-{self.name}.pem")

    def certificate(self) -> x509.Certificate:
        """Raises ConfigError."""
        try:
            return read(read_file(self.cert, MAX_FILE))[0]
        except (OSError, Refused) as error:
            raise ConfigError(f"The certificate {self.cert} cannot be read ({error}): enrol the frame again.") from None

    def authorities(self) -> list[x509.Certificate]:
        """Raises ConfigError."""
        try:
            return read(read_file(self.ca, MAX_FILE))
        except (OSError, Refused) as error:
            raise ConfigError(f"The authority {self.ca} cannot be read ({error}): enrol the frame again.") from None


class Pairs:
    """``folder`` is ``identity/``. Used by one thread."""

    def __init__(self, folder: Path, keys: KeyKeeper | None = None) -> None:
        self._folder = folder
        self._keys = keys if keys is not None else FileKeys()
        self._current = self._load()

    @property
    def current(self) -> Pair:
        """The pair that counts."""
        return self._pair(self._current.pair)

    @property
    def trying(self) -> bool:
        """Whether the current pair has not connected yet, and the one before it is still there."""
        return self._current.before is not None

    def certificate(self) -> x509.Certificate:
        """The current one. Raises ConfigError."""
        return self.current.certificate()

    def authorities(self) -> list[x509.Certificate]:
        """Those the frame trusts now. Raises ConfigError."""
        return self.current.authorities()

    def key(self) -> FrameKey:
        """The current key. Raises ConfigError."""
        try:
            return self._keys.open(self.current.key)
        except OSError as error:
            raise ConfigError(
                f"The frame's key {self.current.key} cannot be read ({error}): enrol the frame again."
            ) from None

    def context(self, clock: Clock | None = None) -> ssl.SSLContext:
        """A client context with the current pair. Raises OSError, ConfigError."""
        context = trusting(self.current.ca, clock)
        self.key().present(context, self.current.cert)
        return context

    def next_key(self) -> FrameKey:
        """The key to ask a certificate for, made once. Raises OSError."""
        path = self._folder / "next-key.pem"
        try:
            key = self._keys.open(path)
            # A cut after a step to the next pair may have left its key here too: no key serves twice.
            if key.public != self.key().public:
                return key
            self._keys.forget(path)
        except FileNotFoundError:
            pass
        except ConfigError:
            self._keys.forget(path)
        return self._keys.make(path)

    def adopt(self, accepted: Accepted) -> None:
        """The next key has its certificate: step to that pair. Raises OSError or Refused; then nothing has changed."""
        if _SERIAL.fullmatch(accepted.serial) is None or accepted.serial in (self._current.pair, self._current.before):
            # It names the pair's files: those of a pair in use may not be written over.
            raise Refused(
                Reason.BAD_MESSAGE,
                f"The certificate's serial {accepted.serial[:64]} is none, or that of the one in use: ask again.",
            )
        pair = self._pair(accepted.serial)
        replace_file(pair.cert, accepted.certificate)
        replace_file(pair.ca, accepted.ca)
        # From here on the key lies in the new pair; a cut before the next line leaves a pair that nothing names.
        self._keys.move(self._folder / "next-key.pem", pair.key)
        before = self._current.before if self._current.before is not None else self._current.pair
        self._point(Current(pair=pair.name, before=before))
        self._tidy()

    def confirm(self) -> None:
        """The current pair has connected: the one before it is not needed any more."""
        if self._current.before is not None:
            self._point(Current(pair=self._current.pair))
            self._tidy()

    def fall_back(self) -> None:
        """The current pair does not connect: use the one before it again."""
        if self._current.before is not None:
            self._point(Current(pair=self._current.before))
            self._tidy()

    def _pair(self, name: str) -> Pair:
        return Pair(name, self._folder)

    def _point(self, current: Current) -> None:
        replace_file(self._folder / "current.json", msgspec.json.encode(current))
        self._current = current

    def _load(self) -> Current:
        path = self._folder / "current.json"
        try:
            current = read_record(read_file(path, MAX_FILE), Current)
        except FileNotFoundError:
            return Current(pair=BIRTH)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({error.strerror}): make it readable.") from error
        except ValueError as error:
            raise ConfigError(f"{path} is damaged ({error}): name the serial of a cert-<serial>.pem in it.") from error
        for name in (current.pair, current.before):
            if name not in (None, BIRTH) and _SERIAL.fullmatch(str(name)) is None:
                raise ConfigError(f"{path} names {name!r}, which is no pair: name a serial of those there.")
        return current

    def _tidy(self) -> None:
        """Destroy pairs that nothing names. What cannot be deleted now goes at the next step."""
        kept = {self._current.pair, self._current.before}
        try:
            for name in disk().names(self._folder):
                part = _PART.fullmatch(name)
                if part is None or (part[2] or BIRTH) in kept:
                    continue
                if part[1] == "key":
                    self._keys.forget(self._folder / name)
                else:
                    remove(self._folder / name)
            sync_folder(self._folder)
        except OSError as error:
            log.error("An old certificate cannot be deleted: %s", error)


def certified_identity(pairs: Pairs) -> str:
    """Whose certificate the frame holds. Raises ConfigError."""
    certificate = pairs.current.certificate()
    with suppress(Refused):
        return name_in(certificate)
    raise ConfigError(
        f"The certificate {pairs.current.cert} (serial {serial_of(certificate)}) names no frame: enrol the frame again."
    )
