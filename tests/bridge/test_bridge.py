"""The bridge as a process, with the real broker and database: what frames send is stored once, and what they should
have is with the broker, whatever dies in between."""

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from msgspec import UNSET

from fleet.models import FrameDay, HealthEvent, Playback, ReportedState
from ota.models import DesiredState, RetainedObject
from protocol.topics import frame_topic
from standalone.postgres import Postgres
from tests.bridge.process import BridgeProcess, FrameClient, eventually, named
from tests.fleet.factories import OUTBOX, batch, hello, make_frame, playback, reported
from tests.services import BrokerHandle, mqtt_broker, user

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

FRAMES = ("frame-1", "frame-2", "frame-3")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerHandle]:
    with mqtt_broker(tmp_path) as running:
        running.admit(*FRAMES)
        yield running


@pytest.fixture
def bridge(broker: BrokerHandle, transactional_db: None, database_url: str, tmp_path: Path) -> Iterator[BridgeProcess]:
    process = BridgeProcess(broker, named(database_url, str(connection.settings_dict["NAME"])), tmp_path)
    yield process
    process.end()


@pytest.fixture
def frame(broker: BrokerHandle, bridge: BridgeProcess) -> Iterator[FrameClient]:
    """frame-1, enrolled and connected."""
    make_frame("frame-1")
    client = FrameClient(broker, "frame-1")
    yield client
    client.stop()


def test_events_become_rows_and_are_then_acknowledged(frame: FrameClient, bridge: BridgeProcess) -> None:
    bridge.start()
    frame.send(batch(playback(1), playback(2, completed=False)))
    assert frame.is_acknowledged(2), bridge.log
    assert Playback.objects.count() == 2, "what is acknowledged is committed"
    assert [(ack.outbox_id, ack.seq, ack.desired_version, ack.hello) for ack in frame.acks()] == [(OUTBOX, 2, 0, UNSET)]


def test_a_hello_is_answered_with_the_watermark_and_a_frame_that_is_behind_gets_its_desired_state(
    frame: FrameClient, bridge: BridgeProcess
) -> None:
    now = datetime.now(UTC)
    DesiredState.objects.create(
        frame_id="frame-1", version=5, envelope=b"signed", issued_at=now, expires_at=now, published_version=5
    )
    bridge.start()
    frame.send(hello(desired_version=5))
    assert frame.waits_for(lambda: len(frame.acks()) == 1), bridge.log
    assert (frame.acks()[0].seq, frame.acks()[0].desired_version, frame.acks()[0].hello) == (0, 5, True)
    frame.send(batch(playback(7)))
    assert frame.is_acknowledged(7)
    assert frame.desired() == []
    frame.send(hello(desired_version=4))
    assert frame.waits_for(lambda: frame.desired() == [b"signed"]), bridge.log
    assert frame.acks()[-1].seq == 7
    assert eventually(lambda: DesiredState.objects.get().published_version == 5)


def test_a_report_is_kept(frame: FrameClient, bridge: BridgeProcess) -> None:
    bridge.start()
    frame.send(reported(sequence=2, state="trial"))
    frame.send(reported(sequence=1, state="staged"))
    frame.send(batch(playback(1)))
    assert frame.is_acknowledged(1), bridge.log
    assert ReportedState.objects.get().state == "trial"


def test_what_cannot_be_read_or_is_not_ones_own_is_dropped_and_the_console_can_say_why(
    frame: FrameClient, bridge: BridgeProcess
) -> None:
    make_frame("frame-2")
    bridge.start()
    for garbage in (b"", b"{", b"\xff\xfe", b"[" * 5_000, b'{"v":9}', b"x" * 70_000):
        frame.publish(frame_topic("frame-1", "events"), garbage)
        frame.publish(frame_topic("frame-1", "hello"), garbage)
    frame.send(batch(playback(1), frame_id="frame-2"))
    frame.send(hello("frame-2"))
    frame.send(batch(playback(3)))
    assert frame.is_acknowledged(3), bridge.log
    assert list(Playback.objects.values_list("frame_id", "seq")) == [("frame-1", 3)]
    assert eventually(lambda: HealthEvent.objects.exists())
    noted = HealthEvent.objects.get()
    assert (noted.frame_id, noted.kind) == ("frame-1", "wrong_identity")
    assert "says it is from frame-2" in noted.detail
    assert "Traceback" not in bridge.log


def test_a_frame_that_is_not_enrolled_is_not_answered(broker: BrokerHandle, bridge: BridgeProcess) -> None:
    make_frame("frame-1")
    bridge.start()
    known, stranger = FrameClient(broker, "frame-1"), FrameClient(broker, "frame-2")
    stranger.send(hello("frame-2"))
    stranger.send(batch(playback(1), frame_id="frame-2"))
    known.send(batch(playback(1)))
    assert known.is_acknowledged(1), bridge.log
    assert stranger.acks() == []
    assert Playback.objects.count() == 1
    known.stop()
    stranger.stop()


def test_killed_again_and_again_it_loses_nothing_and_counts_nothing_twice(
    broker: BrokerHandle, bridge: BridgeProcess
) -> None:
    clients = []
    for frame_id in FRAMES:
        make_frame(frame_id)
        clients.append(FrameClient(broker, frame_id))
    bridge.start()
    batches, size = 60, 20
    for number in range(batches):
        events = [playback(number * size + seq, completed=seq % 2 == 0) for seq in range(1, size + 1)]
        for client in clients:
            client.send(batch(*events, frame_id=client.frame_id))
        if number in {10, 25, 40}:
            # Somewhere between receipt, commit and acknowledgement.
            bridge.kill9()
            bridge.start(wait=number != 25)
    whole = batches * size * len(FRAMES)
    assert eventually(lambda: Playback.objects.count() == whole, 40), (Playback.objects.count(), bridge.log)
    days = list(FrameDay.objects.values_list("frame_id", "playbacks", "completed").order_by("frame_id"))
    assert days == [(frame_id, batches * size, batches * size // 2) for frame_id in FRAMES]
    for client in clients:
        assert client.is_acknowledged(batches * size)
        client.stop()


def test_a_broker_that_dies_and_comes_back_is_worked_with_again(
    frame: FrameClient, broker: BrokerHandle, bridge: BridgeProcess
) -> None:
    bridge.start()
    frame.send(batch(playback(1)))
    assert frame.is_acknowledged(1), bridge.log
    broker.kill9()
    broker.start()
    assert eventually(lambda: bridge.log.count("Subscribed") == 2), bridge.log
    again = FrameClient(broker, "frame-1")
    again.send(batch(playback(2)))
    assert again.is_acknowledged(2), bridge.log
    assert Playback.objects.count() == 2
    again.stop()


def test_a_broker_that_lost_its_store_is_filled_again_in_order(
    frame: FrameClient, broker: BrokerHandle, bridge: BridgeProcess, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    order = RetainedObject.Order
    chunk = "repo/chunk/" + "a" * 64
    for topic, kind, payload in (
        (chunk, order.CHUNK, b"chunk"),
        ("repo/meta/root/1", order.DOCUMENT, b"root"),
        ("repo/head", order.HEAD, b"head"),
    ):
        RetainedObject.objects.create(topic=topic, order=kind, payload=payload, length=len(payload))
    DesiredState.objects.create(frame_id="frame-1", version=1, envelope=b"signed", issued_at=now, expires_at=now)

    def is_published() -> bool:
        return (
            not RetainedObject.objects.filter(published=False).exists()
            and DesiredState.objects.get().published_version == 1
        )

    bridge.start()
    assert eventually(is_published), bridge.log
    broker.stop()
    shutil.rmtree(tmp_path / "broker" / "store")
    broker.start()
    assert eventually(lambda: "publishing everything again" in bridge.log, 30), bridge.log
    assert eventually(is_published), bridge.log
    reader = FrameClient(broker, "frame-1")
    for topic, payload in ((chunk, b"chunk"), ("repo/meta/root/1", b"root"), ("repo/head", b"head")):
        assert reader.subscribe(topic)
        assert reader.hears(topic, payload), topic
    assert reader.waits_for(lambda: reader.desired() == [b"signed"])
    reader.stop()


def test_a_broker_that_kept_its_store_is_left_alone(
    transactional_db: None, broker: BrokerHandle, bridge: BridgeProcess
) -> None:
    RetainedObject.objects.create(topic="repo/head", order=RetainedObject.Order.HEAD, payload=b"head", length=4)
    bridge.start()
    assert eventually(lambda: RetainedObject.objects.get().published), bridge.log
    broker.kill9()
    broker.start()
    assert eventually(lambda: "The broker keeps the newest repository head" in bridge.log), bridge.log
    assert "publishing everything again" not in bridge.log


def test_many_messages_are_published_in_windows(frame: FrameClient, bridge: BridgeProcess) -> None:
    RetainedObject.objects.bulk_create(
        RetainedObject(topic=f"repo/chunk/{number:064x}", order=0, payload=b"%d" % number, length=4)
        for number in range(1_500)
    )
    bridge.start()
    assert eventually(lambda: not RetainedObject.objects.filter(published=False).exists()), bridge.log
    for number in (0, 777, 1_499):
        topic = f"repo/chunk/{number:064x}"
        assert frame.subscribe(topic)
        assert frame.hears(topic, b"%d" % number)


def test_sigterm_ends_it_in_time_with_everything_stored(frame: FrameClient, bridge: BridgeProcess) -> None:
    bridge.start()
    for seq in range(1, 40):
        frame.send(batch(playback(seq)))
    assert bridge.stop() == 0, bridge.log
    stored = Playback.objects.count()
    assert all(ack.seq <= stored for ack in frame.acks()), (stored, frame.acks(), bridge.log)
    bridge.start()
    assert frame.is_acknowledged(39)
    assert Playback.objects.count() == 39


def test_sigterm_ends_it_in_time_without_a_broker_too(broker: BrokerHandle, bridge: BridgeProcess) -> None:
    bridge.start()
    broker.kill9()
    assert eventually(lambda: "does not answer" in bridge.log), bridge.log
    since = time.monotonic()
    assert bridge.stop() == 0, bridge.log
    assert time.monotonic() - since < 5


def test_a_broker_that_refuses_its_subscriptions_ends_it_with_a_sentence(
    transactional_db: None, database_url: str, tmp_path: Path
) -> None:
    with mqtt_broker(tmp_path, [user("bridge", publish=["repo/#"], subscribe=["repo/#"])]) as broker:
        bridge = BridgeProcess(broker, named(database_url, str(connection.settings_dict["NAME"])), tmp_path)
        bridge.start(wait=False)
        try:
            assert bridge.exit_code() == 1
        finally:
            bridge.end()
        assert "CommandError: The broker refuses the subscription frames/+/+/hello" in bridge.log


def test_a_database_that_is_away_for_a_while_loses_nothing(broker: BrokerHandle, tmp_path: Path) -> None:
    server = Postgres(tmp_path / "own-postgres")  # as in earnest: what it has committed survives kill -9
    server.start()
    bridge = BridgeProcess(broker, server.url, tmp_path)
    try:
        bridge.command("migrate", "--verbosity=0")
        bridge.command("enrol_frames", "--prefix=frame", "--count=1", f"--out={tmp_path / 'frames'}")
        with psycopg.connect(server.url) as database:
            database.execute("DELETE FROM fleet_framecertificate")  # the client here brings one of its own
            database.execute("UPDATE fleet_frame SET id = 'frame-1'")
        bridge.start()
        client = FrameClient(broker, "frame-1")
        client.send(batch(playback(1)))
        assert client.is_acknowledged(1), bridge.log
        server.kill9()
        client.send(batch(playback(2)))
        assert eventually(lambda: "trying again" in bridge.log), bridge.log
        assert not client.is_acknowledged(2, 0.5)
        server.start()
        assert client.is_acknowledged(2), bridge.log
        with psycopg.connect(server.url) as database:
            assert database.execute("SELECT count(*), max(seq) FROM fleet_playback").fetchone() == (2, 2)
        client.stop()
    finally:
        bridge.end()
        server.stop()


def test_its_client_id_is_a_secret_it_keeps(bridge: BridgeProcess, tmp_path: Path) -> None:
    bridge.start()
    kept = (tmp_path / "bridge-client-id").read_text()
    assert len(bytes.fromhex(kept)) == 16
    assert (tmp_path / "bridge-client-id").stat().st_mode & 0o777 == 0o600
    bridge.stop()
    bridge.start()
    assert (tmp_path / "bridge-client-id").read_text() == kept
    assert kept not in bridge.log
