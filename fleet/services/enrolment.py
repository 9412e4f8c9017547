"""Enrolling simulated frames, thousands at once: a row, a key and a client certificate for each.

Real frames make their keys themselves: see ``fleet.services.claims``.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from fleet.models import Frame, FrameCertificate, Household
from fleet.pki import RESERVED, Authority, fingerprint, write_private
from fleet.services.audit import audit
from fleet.services.broker import users_changed
from fleet.services.certificates import record
from fleet.services.places import check_place
from protocol.errors import Reason, Refused
from protocol.topics import is_frame_id

MAX_AT_ONCE = 100_000
BATCH = 2_000


@dataclass(frozen=True, slots=True)
class Context:
    """What is true of all frames enrolled together; time zone and site only of those that are new."""

    hardware: str
    locale: str
    simulated: bool = False
    timezone: str = "UTC"
    site: str = ""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Frames that got a new certificate, and those whose certificate was still the right one."""

    issued: list[str]
    kept: list[str]


def frame_ids(prefix: str, count: int) -> list[str]:
    """``prefix-0001`` and on. Raises Refused when they cannot be frame ids."""
    if not 1 <= count <= MAX_AT_ONCE:
        raise Refused(Reason.BAD_MESSAGE, f"Enrol 1 to {MAX_AT_ONCE} frames at once, not {count}.")
    found = [f"{prefix}-{number:04d}" for number in range(1, count + 1)]
    if not is_frame_id(found[-1]):
        raise Refused(Reason.BAD_MESSAGE, f"{found[-1]!r} is no frame id: use a short prefix of a-z, 0-9 and '-'.")
    return found


@transaction.atomic
def enrol(
    ids: Iterable[str], context: Context, authority: Authority, out: Path, actor: str, now: datetime | None = None
) -> Enrolled:
    """Enrol frames and write ``out/<id>/{key.pem,cert.pem,ca.pem,frame.json}``; doing it again changes nothing.

    A frame whose files are missing or belong to another certificate gets a new one. Each frame is a household of its
    own. Raises Refused for an id that no frame may have; then nothing is enrolled.
    """
    now = now or timezone.now()
    check_place(context.timezone, context.site)
    ids = list(ids)
    for frame_id in ids:
        if not is_frame_id(frame_id) or frame_id in RESERVED:
            raise Refused(Reason.BAD_MESSAGE, f"{frame_id!r} cannot be a frame's id: use 1 to 40 of a-z, 0-9 and '-'.")
    known = dict(Frame.objects.filter(pk__in=ids).values_list("id", "certificate_fingerprint"))
    recorded = set(
        FrameCertificate.objects.filter(frame__in=ids, revoked_at=None).values_list("fingerprint", flat=True)
    )
    prints: dict[str, str] = {}
    issued: list[str] = []
    rows: list[FrameCertificate] = []
    for frame_id in ids:
        folder = out / frame_id
        held = _held(folder)
        if held is None or known.get(frame_id) != held or held not in recorded:
            new = authority.client(frame_id, now=now)
            _write(folder, new.key, new.certificate, authority.bundle)
            held = new.fingerprint
            issued.append(frame_id)
            rows.append(record(frame_id, new.of, now))
        _write_context(folder, frame_id, context)
        prints[frame_id] = held
    Household.objects.bulk_create(
        [Household(pk=frame_id) for frame_id in ids if frame_id not in known], ignore_conflicts=True
    )
    Frame.objects.bulk_create(
        [
            Frame(
                pk=frame_id,
                household_id=frame_id,
                hardware=context.hardware,
                locale=context.locale,
                simulated=context.simulated,
                timezone=context.timezone,
                site=context.site,
                enrolled_at=now,
                certificate_fingerprint=prints[frame_id],
            )
            for frame_id in ids
        ],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["hardware", "locale", "simulated", "certificate_fingerprint", "lifecycle"],
    )
    # A key that was made here and is lost with its folder has no successor to wait for.
    FrameCertificate.objects.filter(frame__in=issued, good_until__gt=now).update(good_until=now)
    FrameCertificate.objects.bulk_create(rows, batch_size=BATCH)
    if issued:
        audit(actor, "enrol", f"{len(issued)} frames", {"first": issued[0], "last": issued[-1]}, now=now)
        users_changed()
    return Enrolled(issued, [frame_id for frame_id in ids if frame_id not in set(issued)])


def _held(folder: Path) -> str | None:
    """Fingerprint of the certificate in the frame's folder, None when the folder is not whole."""
    if not all((folder / name).is_file() for name in ("key.pem", "cert.pem", "ca.pem")):
        return None
    try:
        return fingerprint((folder / "cert.pem").read_bytes())
    except ValueError:
        return None


def _write(folder: Path, key: bytes, certificate: bytes, ca: bytes) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(folder / "key.pem", key, durable=False)
    write_private(folder / "ca.pem", ca, durable=False)
    write_private(folder / "cert.pem", certificate, durable=False)


def _write_context(folder: Path, frame_id: str, context: Context) -> None:
    content = {
        "frame_id": frame_id,
        "locale": context.locale,
        "hardware": context.hardware,
        "simulated": context.simulated,
    }
    write_private(folder / "frame.json", (json.dumps(content, indent=1) + "\n").encode(), durable=False)
