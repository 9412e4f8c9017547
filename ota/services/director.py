"""The director: who gets what. Signs one DesiredState per frame with the director's online key.

Everything here works on many frames at once in a fixed number of queries; signing costs some 50 microseconds a frame.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from msgspec import UNSET

from fleet.models import Frame
from ota import keys
from ota.locks import Lock, hold
from ota.models import DesiredState, Release
from ota.services.transfer import OPEN, Terms, policy
from protocol.codec import encode
from protocol.envelope import DESIRED_STATE_TYPE, Envelope, Signature, signed_bytes
from protocol.messages import DesiredState as Message
from protocol.messages import TargetRef

LIFE = dt.timedelta(days=1)
"""How long a frame may act upon a DesiredState."""
RENEW_AFTER = dt.timedelta(hours=6)
RENEW_WITHIN = dt.timedelta(hours=6)
"""It is issued anew so long after it was issued, plus a part of this that frame and version decide: what was issued for
ten thousand frames at once is renewed one by one, and half a day before it expires at the latest."""
BATCH = 2_000
"""Rows of one statement, and how many are renewed at once (once a minute) when many are due."""
HIGHEST_BELIEVED = 2**40
"""A frame that holds a higher version was told it by a thief of the director's key. It forgets that together with the
key, so nothing has to come after it."""


@transaction.atomic
def set_desired(
    frame_ids: Iterable[str], release: Release | None, now: dt.datetime | None = None, terms: Terms = OPEN
) -> dict[str, int]:
    """From now on these frames should run ``release`` (None: keep whatever they have), and may download for it on
    ``terms``. Returns frame id -> version.

    ``now`` is real time, which is what frames check expiry against. The publisher sends the new rows by itself.
    """
    return set_desired_each(dict.fromkeys(frame_ids, release), now, terms)


@transaction.atomic
def set_desired_each(
    wanted: Mapping[str, Release | None], now: dt.datetime | None = None, terms: Terms = OPEN
) -> dict[str, int]:
    """The same with a release for each frame. Unknown and retired frames are left out."""
    asked = {frame_id: Asked(release, terms) for frame_id, release in wanted.items()}
    return _issue(asked, now or timezone.now())


@dataclass(frozen=True, slots=True)
class Asked:
    """What one frame should run. ``order`` is None for a new one, and kept when one is only issued anew."""

    release: Release | None
    terms: Terms
    order: int | None = None


def _issue(wanted: Mapping[str, Asked], now: dt.datetime) -> dict[str, int]:
    hold(Lock.DIRECTOR)
    # A frame that holds a newer version than the database knows has outlived a restore: go on above it.
    frames = Frame.objects.filter(pk__in=list(wanted)).exclude(lifecycle=Frame.Lifecycle.RETIRED)
    held = dict(frames.values_list("pk", "desired_version"))
    current = dict(DesiredState.objects.filter(pk__in=list(held)).values_list("pk", "version"))
    sign = _signer()  # after the lock, so that a change of the director's key is seen
    contents = {release: _contents(release) for release in {asked.release for asked in wanted.values()}}
    policies = {terms: policy(terms) for terms in {asked.terms for asked in wanted.values()}}
    versions: dict[str, int] = {}
    rows = []
    for frame_id, frame_holds in sorted(held.items()):  # in order, as everybody who locks many of these rows does
        release, terms = wanted[frame_id].release, wanted[frame_id].terms
        if frame_holds > HIGHEST_BELIEVED:
            frame_holds = 0
        version = versions[frame_id] = max(current.get(frame_id, 0), frame_holds) + 1
        order = wanted[frame_id].order or version
        target, targets = contents[release]
        message = Message(
            frame_id=frame_id,
            version=version,
            issued_at=_millis(now),
            expires_at=_millis(now + LIFE),
            release=target,
            targets=targets,
            order=order,
            transfer=policies[terms] if target is not None else UNSET,
        )
        rows.append(
            DesiredState(
                frame_id=frame_id,
                version=version,
                order=order,
                release=release,
                envelope=sign(encode(message)),
                issued_at=now,
                expires_at=now + LIFE,
                renew_at=_renewal(frame_id, version, now),
                group=terms.group,
                transfer_revision=terms.group.transfer_revision if terms.group is not None else 0,
                base_model=terms.base_model,
            )
        )
    # published_version is not among the updated fields: it says what the broker has.
    DesiredState.objects.bulk_create(
        rows,
        batch_size=BATCH,
        update_conflicts=True,
        unique_fields=["frame"],
        update_fields=[
            "version",
            "order",
            "release",
            "envelope",
            "issued_at",
            "expires_at",
            "renew_at",
            "group",
            "transfer_revision",
            "base_model",
        ],
    )
    return versions


def refresh(now: dt.datetime, limit: int = BATCH) -> int:
    """Issue anew what is due and what the group's hours or budget have left behind, at most ``limit`` frames, those
    that have waited longest first. Returns how many."""
    with transaction.atomic():
        hold(Lock.DIRECTOR)
        behind = Q(renew_at__lte=now) | Q(group__transfer_revision__gt=F("transfer_revision"))
        due = DesiredState.objects.filter(behind).select_related("release", "group").order_by("renew_at")[:limit]
        wanted = {row.frame_id: Asked(row.release, Terms(row.group, row.base_model), row.order or None) for row in due}
        if wanted:
            _issue(wanted, now)
    return len(wanted)


def mark_due(now: dt.datetime) -> None:
    """The director's key has changed: have every DesiredState signed again, a batch a minute.

    The caller holds Lock.DIRECTOR.
    """
    rows = DesiredState.objects.order_by("pk").select_for_update()  # in order, as everybody who locks many does
    DesiredState.objects.filter(pk__in=rows.values("pk")).update(renew_at=now)


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


def _signer() -> Callable[[bytes], bytes]:
    key = keys.online_key("director")

    def sign(payload: bytes) -> bytes:
        signature = key.private.sign(signed_bytes(DESIRED_STATE_TYPE, payload))
        return encode(Envelope(DESIRED_STATE_TYPE, payload, [Signature(key.public.keyid, signature)]))

    return sign


def _renewal(frame_id: str, version: int, now: dt.datetime) -> dt.datetime:
    digest = hashlib.sha256(f"{frame_id} {version}".encode()).digest()
    return now + RENEW_AFTER + RENEW_WITHIN * (int.from_bytes(digest[:8], "big") / 2**64)


def _millis(at: dt.datetime) -> int:
    return int(at.timestamp() * 1000)
