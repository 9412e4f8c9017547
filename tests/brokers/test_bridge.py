"""The bridge on either broker: everything a frame says arrives, nothing is lost when somebody breaks in on it, and two
frames with one identity are noticed."""

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bridge import inbox
from bridge.link import secret_client_id
from device_agent.storage.outbox import MemoryOutbox
from fleet import clones
from fleet.models import HealthEvent, OutboxWatermark, Playback
from fleet.pki import BRIDGE
from fleet.services.sessions import KIND, cloned
from protocol import session as conversation
from protocol.codec import encode
from protocol.exchange import Command, Publish, Subscribe, Unsubscribe
from protocol.messages import Hello
from protocol.session import Session
from protocol.topics import frame_topic
from tests.brokers.bridge import RunningBridge
from tests.brokers.world import Credential, Peer, World, wait_for
from tests.fleet.factories import make_frame, playback

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


class SpeakingFrame:
    """A frame's conversation (``protocol.session``) over a plain client, with an outbox and no more."""

    def __init__(self, world: World, credential: Credential) -> None:
        self.frame_id = credential.identity
        self.session = secrets.token_hex(16)
        self.outbox = MemoryOutbox()
        self._seq = 0
        self._peer: Peer = world.connected(credential)
        self._talk = Session(self.frame_id, self.outbox, self._hello, lambda _: None)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._do(self._talk.connected(time.monotonic()))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def play(self, films: int) -> None:
        with self._lock:
            for _ in range(films):
                self._seq += 1
                self.outbox.append(playback(self._seq))
            self._do(self._talk.wake_up(time.monotonic()))

    def say_hello(self) -> None:
        with self._lock:
            self._do(self._talk.connected(time.monotonic()))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)

    def _hello(self) -> Hello:
        return Hello(
            frame_id=self.frame_id,
            agent_version="1",
            hardware="rk3588",
            locale="zh",
            outbox_id=self.outbox.outbox_id,
            session=self.session,
        )

    def _run(self) -> None:
        while not self._stop.is_set():
            for topic, payload in self._peer.heard(0.05):
                with self._lock:
                    self._do(self._talk.received(topic, payload, time.monotonic()))
            with self._lock:
                self._do(self._talk.tick(time.monotonic()))

    def _do(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Subscribe(topic):
                    self._peer.subscribe(topic)
                case Unsubscribe():
                    pass
                case Publish(topic, payload):
                    self._peer.publish(topic, payload)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that sends again after a second instead of fifteen."""
    monkeypatch.setattr(conversation, "ACK_TIMEOUT_S", 1.0)


def test_hello_and_events_arrive_and_are_acknowledged(world: World, bridge: RunningBridge) -> None:
    (credential,) = world.admit("talker")
    make_frame("talker")
    frame = SpeakingFrame(world, credential)
    frame.play(5)
    assert wait_for(lambda: not frame.outbox.peek(1))
    assert Playback.objects.filter(frame_id="talker").count() == 5
    frame.stop()


def test_a_frame_that_knew_the_bridges_client_id_would_cost_no_event(
    world: World, bridge: RunningBridge, quick: None
) -> None:
    """It cannot know it: 128 random bits in a file of the server's (see below). Suppose it did: the bridge is thrown
    out and its session wiped, again and again, and what was confirmed to frames in between is gone from the broker."""
    honest, thief = world.admit("honest", "breaker")
    make_frame("honest")
    frame = SpeakingFrame(world, honest)
    bridges_own = bridge.client_id_file.read_text()
    broken_in = 0
    for _ in range(4):
        breaker = world.peer(thief, client_id=bridges_own, clean=True)
        broken_in += breaker.connect()  # NATS refuses a client id for a while that two fight for
        frame.play(10)
        time.sleep(0.3)
        breaker.close()
        frame.play(10)
        time.sleep(1.0)
    assert broken_in > 0
    assert bridge.connections > 1, "the bridge was thrown out"
    assert wait_for(lambda: not frame.outbox.peek(1), 40), "everything is committed in the end"
    assert sorted(Playback.objects.filter(frame_id="honest").values_list("seq", flat=True)) == list(range(1, 81))
    assert OutboxWatermark.objects.get(frame_id="honest").seq == 80
    frame.stop()


def test_the_bridges_client_id_is_secret_and_its_own(tmp_path: Path) -> None:
    ids = {secret_client_id(tmp_path / str(number)) for number in range(50)}
    assert len(ids) == 50
    assert {len(bytes.fromhex(one)) for one in ids} == {16}
    assert secret_client_id(tmp_path / "0") in ids
    assert (tmp_path / "0").stat().st_mode & 0o777 == 0o600


def test_no_broker_tells_a_client_id(world: World, bridge: RunningBridge) -> None:
    (credential,) = world.admit("curious")
    curious = world.connected(credential)
    for topic in ("#", "$SYS/#", "$MQTT/#", "+/+/+/+"):
        curious.subscribe(topic)
    own = bridge.client_id_file.read_text()
    assert not [one for one in curious.heard() if own in one[0] or own.encode() in one[1]]
    assert own not in world.broker.log.read_text()


def test_two_agents_with_one_identity_are_noticed_and_go_on(
    world: World, bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "SETTLED_S", 0.0)
    monkeypatch.setattr(clones, "STALE_MS", 400)
    (credential,) = world.admit("twin")
    make_frame("twin")
    first = SpeakingFrame(world, credential)
    time.sleep(0.6)
    second = SpeakingFrame(world, credential)
    time.sleep(0.6)
    first.say_hello()
    assert wait_for(lambda: HealthEvent.objects.filter(frame_id="twin", kind=KIND).count() == 1)
    assert "twin" in cloned(["twin"])
    first.play(3)
    second.play(3)
    assert wait_for(lambda: not first.outbox.peek(1) and not second.outbox.peek(1)), "both are served as before"
    first.stop()
    second.stop()
    assert Playback.objects.filter(frame_id="twin").count() == 6


def test_many_restarts_of_one_agent_are_not_taken_for_two(
    world: World, bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "SETTLED_S", 0.0)
    monkeypatch.setattr(clones, "STALE_MS", 0)
    (credential,) = world.admit("restless")
    make_frame("restless")
    peer = world.connected(credential)
    peer.subscribe(frame_topic("restless", "ack"))
    for number in range(30):
        hello = Hello(
            frame_id="restless",
            agent_version="1",
            hardware="h",
            locale="zh",
            outbox_id=f"{number:032x}",
            session=f"{number:032x}",
        )
        for _ in range(2):
            peer.publish(frame_topic("restless", "hello"), encode(hello))
    assert wait_for(lambda: any(b"%032x" % 29 in payload for _, payload in peer.heard(0.1))), "the last one is answered"
    assert not HealthEvent.objects.filter(frame_id="restless").exists()
    assert cloned(["restless"]) == {}


def test_a_bridge_whose_certificate_was_replaced_starts_again_with_the_new_one(tables: None, tmp_path: Path) -> None:
    """The users file names the new certificate only, so the old connection ends."""
    world = World.build("nats", tmp_path / "nats")
    try:
        running = RunningBridge(world, tmp_path)
        new = world.issue(BRIDGE)
        new.cert.replace(world.bridge.cert)
        new.key.replace(world.bridge.key)
        world.bridge = replace(new, cert=world.bridge.cert, key=world.bridge.key)
        world.apply()
        assert "new certificate" in (running.ended() or "")
        again = RunningBridge(world, tmp_path)
        again.stop()
    finally:
        world.close()
