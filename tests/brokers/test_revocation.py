"""From the table of certificates to the broker's door: ``manage.py broker_users --watch`` beside a running broker."""

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.utils import timezone

from fleet.models import FrameCertificate
from fleet.services.broker import users_changed
from fleet.services.certificates import record, revoke
from tests.bridge.process import named
from tests.brokers.world import Credential, World, wait_for
from tests.fleet.factories import make_frame

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

IN_FORCE_S = 10.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def watched(world: World, transactional_db: None, database_url: str) -> Iterator[World]:
    """The broker with a watcher beside it; nobody is enrolled yet."""
    with watcher(world, database_url):
        yield world


@contextmanager
def watcher(world: World, database_url: str) -> Iterator[None]:
    environment = os.environ | {
        "DATABASE_URL": named(database_url, str(connection.settings_dict["NAME"])),
        "FRAMEFLEET_VAR": str(world.folder),
        "FRAMEFLEET_SECRET_KEY": "test",
        "MQTT_URL": world.broker.url,
        "MQTT_CA": str(world.folder / "ca.pem"),
        "MQTT_CERT": str(world.bridge.cert),
        "MQTT_KEY": str(world.bridge.key),
    }
    which = (
        ("--out", str(world.folder / "users.conf"))
        if world.kind == "nats"
        else ("--crl", str(world.folder / "crl.pem"), "--kick")
    )
    log = world.folder / "watcher.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "broker_users", "--watch", *which, "--pid-file", str(world.broker.pid_file)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        assert wait_for(lambda: "Watching" in log.read_text() or process.poll() is not None, 20), log.read_text()
        yield
        assert process.poll() is None, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        process.terminate()
        assert process.wait(10) == 0


def enrolled(world: World, *frame_ids: str) -> list[Credential]:
    """Certificates in the table, for new frames or old."""
    made = []
    with transaction.atomic():
        for frame_id in frame_ids:
            one = world.issue(frame_id, good=False)
            assert one.of is not None
            known = FrameCertificate.objects.filter(frame_id=frame_id).exists()
            if not known:
                make_frame(frame_id)
            record(frame_id, one.of, timezone.now()).save()
            made.append(one)
        users_changed()
    return made


def lets_in(world: World, one: Credential) -> bool:
    peer = world.peer(one)
    let_in = peer.connect()
    peer.close()
    return let_in


def test_a_revocation_is_in_force_within_ten_seconds_and_harms_nobody_else(watched: World) -> None:
    stolen, replacement, neighbour = enrolled(watched, "stolen", "stolen", "neighbour")
    assert wait_for(lambda: lets_in(watched, neighbour), IN_FORCE_S), "a new frame is let in"
    thief, other, bridge = (watched.connected(one) for one in (stolen, neighbour, watched.bridge))
    since = time.monotonic()
    assert revoke("stolen", "ops", "stolen from a hallway", serial_hex=stolen.serial_hex) == 1
    assert thief.disconnected.wait(IN_FORCE_S), "its live connection ends"
    took = time.monotonic() - since
    assert took < IN_FORCE_S
    assert not lets_in(watched, stolen)
    assert lets_in(watched, replacement)
    assert not other.disconnected.is_set()
    assert not bridge.disconnected.is_set()
    print(f"{watched.kind}: cut off {took:.2f} s after the revocation")


def test_a_certificate_that_ends_by_itself_is_cut_off_too(watched: World) -> None:
    (old,) = enrolled(watched, "renewed")
    assert wait_for(lambda: lets_in(watched, old), IN_FORCE_S)
    there = watched.connected(old)
    FrameCertificate.objects.filter(frame_id="renewed").update(good_until=timezone.now() + timedelta(seconds=2))
    with transaction.atomic():
        users_changed()
    assert there.disconnected.wait(2 + IN_FORCE_S)
    assert not lets_in(watched, old)


def test_who_was_revoked_while_nobody_watched_is_cut_off_when_somebody_does(
    world: World, transactional_db: None, database_url: str
) -> None:
    with watcher(world, database_url):
        (stolen,) = enrolled(world, "unwatched")
        assert wait_for(lambda: lets_in(world, stolen), IN_FORCE_S)
        thief = world.connected(stolen)
    revoke("unwatched", "ops", "stolen")
    assert not thief.disconnected.wait(1)
    with watcher(world, database_url):
        assert thief.disconnected.wait(IN_FORCE_S)
        assert not lets_in(world, stolen)


def test_a_broker_that_starts_again_has_the_newest_list(watched: World) -> None:
    (known,) = enrolled(watched, "patient")
    assert wait_for(lambda: lets_in(watched, known), IN_FORCE_S)
    watched.broker.kill9()
    revoke("patient", "ops", "stolen")
    (fresh,) = enrolled(watched, "fresh")
    watched.broker.start()
    assert wait_for(lambda: lets_in(watched, fresh), IN_FORCE_S)
    assert wait_for(lambda: not lets_in(watched, known), IN_FORCE_S)


def test_a_new_certificate_of_the_broker_is_served_without_a_new_start(watched: World) -> None:
    (known,) = enrolled(watched, "loyal")
    assert wait_for(lambda: lets_in(watched, known), IN_FORCE_S)
    there, before = watched.connected(known), served(watched, known)
    server = watched.authority.server()
    (watched.folder / "server.pem").write_bytes(server.certificate)
    (watched.folder / "server-key.pem").write_bytes(server.key)
    bundle = watched.folder / "ca" / "ca.pem"
    bundle.write_bytes(bundle.read_bytes())  # as a rotation does
    assert wait_for(lambda: served(watched, known) != before, IN_FORCE_S)
    assert not there.disconnected.is_set()


def served(world: World, one: Credential) -> str:
    """The serial number of the broker's own certificate."""
    context = ssl.create_default_context(cafile=str(world.folder / "ca.pem"))
    context.load_cert_chain(one.cert, one.key)
    with (
        socket.create_connection(("127.0.0.1", world.broker.port), 5) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped,
    ):
        certificate = wrapped.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])
