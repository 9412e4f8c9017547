"""Keeping the broker's files true: who may connect, written whenever that changes, and the broker told to read it.

The table of certificates is the truth; a file is only ever written as a whole, and only when it would differ. So a
watcher that is killed anywhere and started again ends up with the same files, and several of them do no harm.
"""

import logging
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Min, Q
from django.utils import timezone

from fleet import authority
from fleet.broker_users import broker_users, serial_of
from fleet.crl import REWRITE_EVERY, revocation_lists
from fleet.models import Frame, FrameCertificate
from fleet.pki import Authority, write_private
from fleet.services.certificates import good_certificates

log = logging.getLogger(__name__)

BROKERS = frozenset({"nats-server", "mosquitto"})
"""Programs that take SIGHUP for "read your files again"."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where to write: the users (NATS), the lists of revoked certificates (Mosquitto), and whose process to tell."""

    users: Path | None = None
    crl: Path | None = None
    pid_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Door:
    """Who may connect at one moment. ``until`` is when the next certificate ends by itself."""

    certificates: int
    changed: bool
    until: datetime | None


def write(files: Files, now: datetime | None = None) -> Door:
    """Bring the files up to date. Raises OSError when one cannot be written, and what the database raises."""
    now = now or timezone.now()
    good = list(good_certificates(now).values_list("frame_id", "serial_hex"))
    until = good_certificates(now).aggregate(first=Min("good_until"))["first"]
    changed = False
    if files.users is not None:
        bridge = serial_of(Path(settings.MQTT_CERT))
        changed |= _replace(files.users, broker_users(good, [bridge] if bridge else []).encode())
    if files.crl is not None:
        changed |= _replace_crl(files.crl, now)
    return Door(len(good), changed, until)


def tell(pid_file: Path) -> int | None:
    """Send SIGHUP to the broker whose process id is in the file; its id, None when there is nobody to tell yet.

    A file that a killed broker left behind may name a stranger by now, whom SIGHUP would end: the name is looked at.
    It would end a broker too that has written the file and not yet set up its signals: that one is told later.
    """
    try:
        pid = int(pid_file.read_text())
        name = _name_of(pid)
        if pid <= 1 or (name is not None and name not in BROKERS) or not _hears(pid):
            return None
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError):
        return None
    return pid


def running(pid_file: Path) -> int | None:
    """The broker's process id, None when the file names none that runs."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, 0)
    except (OSError, ValueError, OverflowError):
        return None
    return pid


def tls_files() -> list[int]:
    """Changes whenever the authorities or a service's certificate are replaced."""
    var = Path(settings.FRAMEFLEET_VAR)
    files = (var / "ca" / "ca.pem", var / "tls" / "server" / "cert.pem", Path(settings.MQTT_CERT))
    return [file.stat().st_mtime_ns if file.exists() else 0 for file in files]


def shut_out(since: datetime, now: datetime) -> list[str]:
    """Frames of which a certificate has stopped being good after ``since``, by id. Not for following what goes on: a
    transaction that is not committed yet may bring an earlier time."""
    ended = Q(revoked_at__gt=since, revoked_at__lte=now) | Q(good_until__gt=since, good_until__lte=now)
    return sorted(set(FrameCertificate.objects.filter(ended).values_list("frame_id", flat=True)))


def closed(now: datetime) -> frozenset[tuple[str, str]]:
    """(frame id, serial in hex) of what opens no door any more, but what ended by itself more than a day ago."""
    rows = FrameCertificate.objects.filter(not_after__gt=now - timedelta(days=1))
    return frozenset(rows.exclude(pk__in=good_certificates(now)).values_list("frame_id", "serial_hex"))


def _replace(path: Path, content: bytes) -> bool:
    if path.exists() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, content)
    return True


def _replace_crl(path: Path, now: datetime) -> bool:
    """Signatures differ each time, so what counts is kept beside the list: which serials, whose, written on which
    day."""
    authorities = Authority.all(authority.folder())
    revoked: dict[str, list[tuple[str, datetime]]] = {}
    for by, serial, since in _worthless(now):
        revoked.setdefault(by, []).append((serial, since))
    day = int(now.timestamp() // REWRITE_EVERY.total_seconds())
    named = [[one.id, sorted(serial for serial, _ in revoked.get(one.id, []))] for one in authorities]
    summary = repr((day, named)).encode()
    beside = path.with_name(f"{path.name}.content")
    if path.exists() and beside.exists() and beside.read_bytes() == summary:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, revocation_lists(authorities, revoked, now))
    path.chmod(0o644)  # no secret, and the broker may be another user
    write_private(beside, summary)  # last: a cut in between only has the list written once more
    return True


def _worthless(now: datetime) -> Iterable[tuple[str, str, datetime]]:
    """(authority, serial, since when) of what still is within its dates and opens no door any more."""
    rows = FrameCertificate.objects.filter(not_after__gt=now).exclude(
        revoked_at=None, good_until__gt=now, frame__lifecycle=Frame.Lifecycle.ACTIVE
    )
    for by, serial, revoked_at, good_until in rows.values_list("authority", "serial_hex", "revoked_at", "good_until"):
        yield by, serial, min(one for one in (revoked_at, good_until, now) if one is not None)


def _name_of(pid: int) -> str | None:
    """The program's name where the system tells it."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def _hears(pid: int) -> bool:
    """Whether the process handles SIGHUP, where the system tells it; unhandled, the signal ends a process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), None)
    return caught is None or bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)
