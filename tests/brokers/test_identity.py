"""Who is let in: whom the fleet CA has certified, as a client, now, and nobody has revoked."""

from datetime import timedelta
from pathlib import Path

import pytest

from fleet.pki import Authority
from protocol.topics import frame_topic
from tests.brokers.world import Credential, World

pytestmark = pytest.mark.slow


def test_an_expired_certificate_is_refused(world: World) -> None:
    expired = world.issue("drawer", life=timedelta(minutes=-1))
    world.apply()
    assert not world.peer(expired).connect()


def test_a_certificate_of_another_authority_is_refused(world: World, tmp_path: Path) -> None:
    foreign = world.issue("frame-1", authority=Authority.open(tmp_path / "other"))
    world.apply()
    assert not world.peer(foreign).connect()


def test_the_servers_own_certificate_opens_nothing(world: World) -> None:
    server = Credential("localhost", "1", world.folder / "server.pem", world.folder / "server-key.pem")
    assert not world.peer(server).connect()


def test_a_revoked_certificate_is_refused_and_the_frames_other_one_is_not(world: World) -> None:
    stolen, replacement = world.admit("frame-2", "frame-2")
    assert world.peer(stolen).connect()
    world.revoke(stolen)
    assert not world.peer(stolen).connect()
    assert world.peer(replacement).connect()


def test_new_frames_are_let_in_and_nobody_elses_connection_ends(world: World) -> None:
    (old,) = world.admit("frame-3")
    there, bridge = world.connected(old), world.connected(world.bridge)
    assert bridge.subscribe("frames/+/+/hello", 1)
    for new in world.admit("new-1", "new-2"):
        assert world.peer(new).connect()
    there.publish(frame_topic("frame-3", "hello"), b"still there")
    assert bridge.hears(b"still there")
    assert not there.disconnected.is_set()
    assert not bridge.disconnected.is_set()


def test_a_certificate_that_the_backend_does_not_know_is_refused_by_nats_alone(world: World) -> None:
    """Mosquitto knows whom it must not let in, not whom it may."""
    unlisted = world.issue("frame-4", good=False)
    assert world.peer(unlisted).connect() is (world.kind == "mosquitto")
