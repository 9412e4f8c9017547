"""The loop behind ``manage.py broker_users --watch``: who may connect changes, the broker's files follow in a second.

PostgreSQL's NOTIFY wakes it; the revision is looked at every LOOK_S too, so a lost notification or connection only
costs that long. A revocation is in force at NATS when it has read the users again: it cuts off whose user is gone.
Mosquitto reads its list of revoked certificates for new connections only; the live ones are kicked.
"""

import logging
import threading
import time
from datetime import datetime, timedelta

from django.db import Error, connection
from django.utils import timezone

from fleet.broker_files import Files, closed, running, shut_out, tell, tls_files, write
from fleet.kick import Kicker
from fleet.models import BrokerUsers
from fleet.services.broker import CHANNEL

log = logging.getLogger(__name__)

LOOK_S = 1.0
ANYWAY_S = 60.0
"""Files are compared with the table this often, whatever the revision says."""
RESTS = 2.0
"""After a write it rests for so many times as long as the write took: births by the thousand cost no core."""
MAX_BACKOFF_S = 10.0
KICK_AFTER_S = (1.0, 4.0)
"""After SIGHUP: Mosquitto reads the list within a turn of its loop; kicked before that, a client would be let in
again. The second time is for a loop that was slow."""
KICK_SINCE = timedelta(minutes=10)
"""How far a watcher looks back when it starts: somebody may have been revoked while there was none."""


class Watcher:
    """``run`` until stopped."""

    def __init__(self, files: Files, kicker: Kicker | None = None) -> None:
        self._files = files
        self._kicker = kicker
        self._revision: int | None = None
        self._until: datetime | None = None
        self._certificates = tls_files()
        self._written = float("-inf")
        self._told: int | None = None
        self._closed: frozenset[tuple[str, str]] | None = None
        self._kicks: list[tuple[float, list[str]]] = []

    def run(self, stop: threading.Event) -> None:
        """Look, write, tell, until ``stop`` is set."""
        log.info("Watching who may connect to the broker")
        backoff = LOOK_S
        while not stop.is_set():
            try:
                self._turn()
                self._listen(LOOK_S)
                backoff = LOOK_S
            except (Error, OSError, ValueError) as error:
                log.warning("The broker's files have to wait (%s)", str(error).strip().partition("\n")[0])
                connection.close()
                stop.wait(backoff)
                backoff = min(MAX_BACKOFF_S, backoff * 2)

    def _turn(self) -> None:
        now = timezone.now()
        revision = BrokerUsers.objects.values_list("revision", flat=True).first()
        old = time.monotonic() - self._written > ANYWAY_S
        ended = self._until is not None and self._until <= now
        certificates = tls_files()
        if revision != self._revision or old or ended or certificates != self._certificates:
            self._write(revision, now)
        if certificates != self._certificates:
            self._certificates, self._told = certificates, None  # the broker reads its own anew at SIGHUP too
        pid = running(self._files.pid_file) if self._files.pid_file else None
        if pid is not None and pid != self._told and self._files.pid_file:
            # A broker that has just started may have read the files right before they were written.
            self._told = tell(self._files.pid_file)
        self._kick()

    def _write(self, revision: int | None, now: datetime) -> None:
        began = time.monotonic()
        # Looked at first: who is kicked must stand in the list already. What comes in between has its turn next time.
        shut = closed(now) if self._kicker is not None else frozenset()
        door = write(self._files, now)
        if door.changed:
            self._told = tell(self._files.pid_file) if self._files.pid_file else None
            log.info("%d certificates may connect; told the broker: %s", door.certificates, self._told or "not running")
        self._revision, self._until = revision, door.until
        self._written = time.monotonic()
        if self._kicker is not None:
            if self._closed is None:
                frames = shut_out(now - KICK_SINCE, now)
            else:
                frames = sorted({frame_id for frame_id, _ in shut - self._closed})
            if frames:
                self._kicks += [(self._written + pause, frames) for pause in KICK_AFTER_S]
            self._closed = shut
        time.sleep(min(LOOK_S, RESTS * (self._written - began)))

    def _kick(self) -> None:
        due = [frames for at, frames in self._kicks if at <= time.monotonic()]
        if not due or self._kicker is None:
            return
        frames = sorted({one for some in due for one in some})
        self._kicker.kick(frames)  # raises OSError when it cannot: then it is still due
        self._kicks = [(at, some) for at, some in self._kicks if at > time.monotonic()]

    def _listen(self, seconds: float) -> None:
        """Until a notification comes, at most so long."""
        connection.ensure_connection()
        raw = connection.connection
        raw.execute(f"LISTEN {CHANNEL}")
        for _ in raw.notifies(timeout=seconds, stop_after=1):
            pass
