"""Writing down who did what."""

from collections.abc import Mapping
from datetime import datetime

from django.utils import timezone

from fleet.models import AuditEntry


def audit(
    actor: str, action: str, subject: str, detail: Mapping[str, object] | None = None, now: datetime | None = None
) -> AuditEntry:
    """Add one entry; call it in the transaction of what it tells."""
    return AuditEntry.objects.create(
        at=now or timezone.now(), actor=actor, action=action, subject=subject[:200], detail=dict(detail or {})
    )
