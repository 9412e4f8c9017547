"""The director: signed DesiredStates whose version only grows and that never run out."""

import datetime as dt

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.utils import timezone

from ota import keys
from ota.models import DesiredState, Release
from ota.services import director
from protocol.codec import decode
from protocol.envelope import DESIRED_STATE_TYPE, Envelope, signed_bytes
from protocol.messages import DesiredState as Message
from tests.ota.world import Enrol, hello

pytestmark = pytest.mark.django_db


def test_a_version_goes_on_above_what_the_frame_holds(release_1_0: Release, frames: Enrol) -> None:
    """After the database was restored from a backup, frames hold newer versions than it knows."""
    (frame,) = frames(1)
    hello(frame, desired_version=41)
    assert director.set_desired([frame], release_1_0) == {frame: 42}
    assert director.set_desired([frame], release_1_0) == {frame: 43}


def test_desired_states_are_issued_anew_before_they_expire(release_1_0: Release, frames: Enrol) -> None:
    ids = frames(5)
    director.set_desired(ids, release_1_0)
    now = timezone.now()
    assert director.refresh(now) == 0
    assert director.refresh(now + dt.timedelta(hours=13), limit=3) == 3
    assert director.refresh(now + dt.timedelta(hours=13)) == 2
    assert set(director.desired_versions(ids).values()) == {2}


def test_what_is_only_issued_anew_keeps_its_order(release_1_0: Release, release_1_1: Release, frames: Enrol) -> None:
    (frame,) = frames(1)

    def order() -> object:
        return decode(decode(bytes(DesiredState.objects.get().envelope), Envelope).payload, Message).order

    director.set_desired([frame], release_1_0)
    assert order() == 1
    for hours in (13, 26):
        assert director.refresh(timezone.now() + dt.timedelta(hours=hours)) == 1
    assert (order(), director.desired_versions([frame])[frame]) == (1, 3)
    director.set_desired([frame], release_1_1)
    assert order() == 4
    director.set_desired([frame], release_1_1)
    assert order() == 5, "asked again by somebody, it is a new order"


def test_the_signed_message_names_release_targets_and_expiry(release_1_1: Release, frames: Enrol) -> None:
    (frame,) = frames(1)
    director.set_desired([frame], release_1_1)
    envelope = decode(bytes(DesiredState.objects.get().envelope), Envelope)
    message = decode(envelope.payload, Message)

    public: Ed25519PublicKey = keys.online_key("director").private.public_key()
    public.verify(envelope.signatures[0].sig, signed_bytes(DESIRED_STATE_TYPE, envelope.payload))
    assert envelope.signatures[0].keyid == keys.online_key("director").public.keyid
    assert message.frame_id == frame
    assert message.release is not None
    assert message.release.sha256 == release_1_1.digest
    assert [target.path for target in message.targets] == [
        "base/talking-portrait-1.0.bundle",
        "lora/mandarin-1.1.adapter",
    ]
    assert message.expires_at - message.issued_at == 24 * 3600 * 1000


def test_no_release_means_that_the_frame_keeps_what_it_has(release_1_0: Release, frames: Enrol) -> None:
    (frame,) = frames(1)
    director.set_desired([frame], None)
    message = decode(decode(bytes(DesiredState.objects.get().envelope), Envelope).payload, Message)
    assert (message.release, message.targets) == (None, [])


def test_unknown_frames_are_left_out(release_1_0: Release, frames: Enrol) -> None:
    (frame,) = frames(1)
    assert director.set_desired([frame, "nobody"], release_1_0) == {frame: 1}
    director.republish("nobody")
    assert director.desired_versions([frame, "nobody"]) == {frame: 1}
