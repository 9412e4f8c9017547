"""Writing down who did what, and publishing the log's head.

The database numbers and chains entries itself, at commit, and lets nobody change or delete one (see the migration that
made it so). Whoever owns the database can undo that; the heads that were published elsewhere tell.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec
from django.conf import settings
from django.utils import timezone

from fleet.models import AuditEntry
from protocol.audit import AuditHead

LAST_LINE = 4_096
"""Bytes at the end of the file of heads in which its last line must lie."""


def audit(
    actor: str, action: str, subject: str, detail: Mapping[str, object] | None = None, now: datetime | None = None
) -> AuditEntry:
    """Add one entry; call it in the transaction of what it tells."""
    return AuditEntry.objects.create(
        at=now or timezone.now(), actor=actor, action=action, subject=subject[:200], detail=dict(detail or {})
    )


def newest_head() -> AuditHead | None:
    """The newest entry that is part of the chain."""
    newest = AuditEntry.objects.exclude(number=None).order_by("-number").first()
    return None if newest is None or newest.number is None else AuditHead(number=newest.number, digest=newest.digest)


def heads_file() -> Path:
    """Where heads are published: one JSON document a line. Meant to lie on another machine's or a write-once volume."""
    return Path(settings.FRAMEFLEET_AUDIT_HEADS)


def publish_head(now: datetime | None = None) -> bool:
    """Append the newest head to ``heads_file`` if it is not its last line. Returns whether anything was written."""
    head = newest_head()
    path = heads_file()
    tail = _tail(path)
    if head is None or head.digest == _published(tail):
        return False
    at = now or timezone.now()
    line = msgspec.json.encode(AuditHead(number=head.number, digest=head.digest, at_ms=int(at.timestamp() * 1_000)))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "ab") as file:
        torn = bool(tail) and not tail.endswith(b"\n")  # by a power cut; it must not swallow this line
        file.write(b"\n" * torn + line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return True


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_LINE))
            return file.read()
    except FileNotFoundError:
        return b""


def _published(tail: bytes) -> str | None:
    """The digest in the last line."""
    try:
        return msgspec.json.decode(tail.rstrip().rpartition(b"\n")[2], type=AuditHead).digest
    except msgspec.DecodeError:
        return None
