"""The director: who gets what. Signs one DesiredState per frame with the director's online key.

Everything here works on many frames at once in a fixed number of queries; signing costs some 50 microseconds a frame.
"""

import datetime as dt
from collections.abc import Iterable, Mapping

import msgspec
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from fleet.models import Frame
from ota import keys
from ota.locks import Lock, hold
from ota.models import DesiredState, Release
from protocol.codec import encode
from protocol.envelope import DESIRED_STATE_TYPE, Envelope, Signature, signed_bytes
from protocol.messages import DesiredState as Message
from protocol.messages import TargetRef

LIFE = dt.timedelta(days=1)
"""How long a frame may act upon a DesiredState."""
MARGIN = dt.timedelta(hours=12)
"""How long before expiry it is issued anew."""
BATCH = 2_000


@transaction.atomic
def set_desired(frame_ids: Iterable[str], release: Release | None, now: dt.datetime | None = None) -> dict[str, int]:
    """From now on these frames should run ``release`` (None: keep whatever they have). Returns frame id -> version.

    ``now`` is real time, which is what frames check expiry against. The publisher sends the new rows by itself.
    """
    return set_desired_each(dict.fromkeys(frame_ids, release), now)


@transaction.atomic
def set_desired_each(wanted: Mapping[str, Release | None], now: dt.datetime | None = None) -> dict[str, int]:
    """The same with a release for each frame. Unknown frame ids are left out."""
    now = now or timezone.now()
    hold(Lock.DIRECTOR)
    # A frame that holds a newer version than the database knows has outlived a restore: go on above it.
    held = dict(Frame.objects.filter(pk__in=list(wanted)).values_list("pk", "desired_version"))
    current = dict(DesiredState.objects.filter(pk__in=list(held)).values_list("pk", "version"))
    templates = {release: _contents(release) for release in set(wanted.values())}
    versions: dict[str, int] = {}
    rows = []
    for frame_id, frame_holds in sorted(held.items()):  # in order, as everybody who locks many of these rows does
        release = wanted[frame_id]
        version = versions[frame_id] = max(current.get(frame_id, 0), frame_holds) + 1
        target, targets = templates[release]
        message = Message(
            frame_id=frame_id,
            version=version,
            issued_at=_millis(now),
            expires_at=_millis(now + LIFE),
            release=target,
            targets=targets,
        )
        rows.append(
            DesiredState(
                frame_id=frame_id,
                version=version,
                release=release,
                envelope=_sign(encode(message)),
                issued_at=now,
                expires_at=now + LIFE,
            )
        )
    # published_version is not among the updated fields: it says what the broker has.
    DesiredState.objects.bulk_create(
        rows,
        batch_size=BATCH,
        update_conflicts=True,
        unique_fields=["frame"],
        update_fields=["version", "release", "envelope", "issued_at", "expires_at"],
    )
    return versions


def refresh(now: dt.datetime, limit: int = BATCH) -> int:
    """Issue anew what expires within MARGIN, at most ``limit`` frames. Returns how many."""
    with transaction.atomic():
        hold(Lock.DIRECTOR)
        due = DesiredState.objects.filter(expires_at__lt=now + MARGIN).select_related("release")
        wanted = {row.frame_id: row.release for row in due.order_by("expires_at")[:limit]}
        if wanted:
            set_desired_each(wanted, now)
    return len(wanted)


def desired_versions(frame_ids: Iterable[str]) -> dict[str, int]:
    """Frame id -> version of its DesiredState; frames without one are left out."""
    return dict(DesiredState.objects.filter(pk__in=list(frame_ids)).values_list("pk", "version"))


def republish(frame_id: str) -> None:
    """The frame has missed its DesiredState: have the bridge publish it again.

    A row that somebody is changing right now is left alone: it is about to be published anyway, and a frame that is
    behind asks again.
    """
    free = DesiredState.objects.select_for_update(skip_locked=True).filter(pk=frame_id)
    DesiredState.objects.filter(pk__in=free.values("pk")).update(published_version=F("version") - 1)


def _contents(release: Release | None) -> tuple[TargetRef | None, list[TargetRef]]:
    if release is None:
        return None, []
    targets = msgspec.convert(release.manifest["targets"], list[TargetRef])
    return TargetRef(release.path, release.length, release.digest), targets


def _sign(payload: bytes) -> bytes:
    key = keys.online_key("director")
    signature = key.private.sign(signed_bytes(DESIRED_STATE_TYPE, payload))
    return encode(Envelope(DESIRED_STATE_TYPE, payload, [Signature(key.public.keyid, signature)]))


def _millis(at: dt.datetime) -> int:
    return int(at.timestamp() * 1000)
