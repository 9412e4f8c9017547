"""A frame with a valid certificate can neither read nor write what is another frame's, or the backend's, on either
broker. A broker may confirm what it drops (MQTT 3.1.1 knows no other answer), so what counts is what anybody hears."""

import json
import secrets

import pytest

from protocol.topics import DOWN, UP, frame_topic, shard_of
from tests.brokers.mosquitto import DEPLOY
from tests.brokers.world import Credential, Peer, World

pytestmark = pytest.mark.slow

THIEF, VICTIM = "thief", "victim"

EVERYTHING = (
    *("#", "+", "+/#", "+/+/+/+", "frames/#", "frames/+/+/+", "frames", "repo", "/#"),
    *(f"frames/+/{VICTIM}/{kind}" for kind in (*UP, *DOWN)),
    *(frame_topic(VICTIM, kind) for kind in (*UP, *DOWN)),
    *(f"{frame_topic(VICTIM, kind)}/#" for kind in DOWN),
    *(frame_topic(THIEF, kind) for kind in UP),
    *("$SYS/#", "$SYS/ACCOUNT/#", "$JS/#", "$JS/API/#", "$KV/#", "$CONTROL/#", "$CONTROL/dynamic-security/v1/response"),
    *("$MQTT/#", "$MQTT/msgs/#", "$MQTT/rmsgs/#", "$MQTT/sess/#", "$MQTT/deliver/#", "$MQTT/JSA/#", "_INBOX/#"),
    *("$share/g/#", "$share/g/frames/#", f"$share/g/{frame_topic(VICTIM, 'desired')}"),
)


@pytest.fixture
def bridge(world: World) -> Peer:
    peer = world.connected(world.bridge)
    for kind in UP:
        assert peer.subscribe(f"frames/+/+/{kind}", 1)
    _read_repository(peer, 1)
    return peer


@pytest.fixture
def thief(world: World) -> Peer:
    return world.connected(_known(world, THIEF))


@pytest.fixture
def victim(world: World) -> Peer:
    return world.connected(_known(world, VICTIM))


def _read_repository(peer: Peer, qos: int = 0) -> None:
    for topic in ("repo/+", "repo/+/+", "repo/+/+/+"):
        assert peer.subscribe(topic, qos)


def _known(world: World, identity: str) -> Credential:
    """The module's certificate of this frame."""
    for one in world.good:
        if one.identity == identity:
            return one
    return world.admit(identity)[0]


def test_a_frame_does_what_it_should(bridge: Peer, victim: Peer) -> None:
    for kind in DOWN:
        assert victim.subscribe(frame_topic(VICTIM, kind))
        bridge.publish(frame_topic(VICTIM, kind), kind.encode())
        assert victim.hears(kind.encode())
    for sort in UP:
        victim.publish(frame_topic(VICTIM, sort), sort.encode())
        assert bridge.hears(sort.encode())
    chunk = secrets.token_bytes(64 * 1024)
    bridge.publish("repo/chunk/" + "c" * 64, chunk, retain=True)
    assert victim.subscribe("repo/chunk/" + "c" * 64)
    assert victim.hears(chunk)


@pytest.mark.parametrize("qos", [0, 1])
def test_whatever_it_subscribes_it_hears_nothing_of_another_frame(
    world: World, bridge: Peer, thief: Peer, victim: Peer, qos: int
) -> None:
    for kind in DOWN:
        bridge.publish(frame_topic(VICTIM, kind), b"secret, retained", retain=True)
    for topic in EVERYTHING:
        # A broker may hang up on what is no topic to it.
        thief = world.again(thief, _known(world, THIEF))
        thief.subscribe(topic, qos)
    thief = world.again(thief, _known(world, THIEF))
    for kind in DOWN:
        bridge.publish(frame_topic(VICTIM, kind), b"secret")
    for sort in UP:
        victim.publish(frame_topic(VICTIM, sort), b"secret")
    assert [(topic, payload) for topic, payload in thief.heard() if b"secret" in payload] == []
    for kind in DOWN:
        bridge.publish(frame_topic(VICTIM, kind), b"", retain=True)


def test_each_filter_alone_hears_nothing_of_another_frame(world: World, bridge: Peer) -> None:
    """One connection for each, so that a broker that hangs up on one hides no other."""
    known = _known(world, THIEF)
    listeners = []
    for topic in EVERYTHING:
        listener = world.connected(known)
        listener.subscribe(topic)
        listeners.append((topic, listener))
    own = world.connected(known)
    own.subscribe(frame_topic(THIEF, "ack"))
    for kind in DOWN:
        bridge.publish(frame_topic(VICTIM, kind), b"secret")
    bridge.publish(frame_topic(THIEF, "ack"), b"after all the others")
    assert own.hears(b"after all the others")
    assert [topic for topic, one in listeners if any(b"secret" in payload for _, payload in one.heard(0.01))] == []


def test_whatever_it_publishes_nobody_takes_it_for_another_frames_or_the_backends(
    world: World, bridge: Peer, victim: Peer
) -> None:
    for kind in DOWN:
        assert victim.subscribe(frame_topic(VICTIM, kind))
    assert victim.subscribe("repo/head")
    targets = [
        *(frame_topic(VICTIM, kind) for kind in (*UP, *DOWN)),
        *(f"frames/{shard_of(THIEF)}/{VICTIM}/{kind}" for kind in UP),
        *(frame_topic(THIEF, kind) for kind in DOWN),
        *("repo/head", "repo/meta/root/1", "repo/chunk/" + "a" * 64, "repo", "frames", f"frames/0/{THIEF}"),
        *("$SYS/broker/uptime", "$MQTT/msgs/x", "$JS/API/STREAM/NAMES", "$MQTT/rmsgs/repo/head", "_INBOX/x"),
    ]
    forger = world.connected(_known(world, THIEF))
    for topic in targets:
        for retain in (False, True):
            forger = world.again(forger, _known(world, THIEF))
            forger.publish(topic, b"forged", retain=retain)
    honest = world.connected(_known(world, THIEF))
    honest.publish(frame_topic(THIEF, "events"), b"honest")
    assert [payload for _, payload in bridge.heard(0.5)].count(b"honest") == 1
    assert b"forged" not in [payload for _, payload in victim.heard()]
    late = world.connected(world.bridge)
    _read_repository(late)
    for sort in UP:
        late.subscribe(f"frames/+/+/{sort}")
    assert b"forged" not in [payload for _, payload in late.heard()]


def test_its_will_reaches_nobody_elses_topics(world: World, bridge: Peer, victim: Peer) -> None:
    assert victim.subscribe(frame_topic(VICTIM, "desired"))
    for topic in (frame_topic(VICTIM, "desired"), frame_topic(VICTIM, "hello"), "repo/head"):
        dying = world.peer(_known(world, THIEF), will=(topic, b"last will"))
        if dying.connect():
            dying.drop()
    world.connected(_known(world, THIEF), will=(frame_topic(THIEF, "hello"), b"its own")).drop()
    heard = [payload for _, payload in bridge.heard(0.5)]
    assert b"its own" in heard
    assert b"last will" not in heard
    assert victim.heard() == []
    late = world.connected(world.bridge)
    _read_repository(late)
    assert b"last will" not in [payload for _, payload in late.heard()]


def test_a_frame_cannot_order_the_broker_to_end_connections(world: World, bridge: Peer, thief: Peer) -> None:
    steps = [{"command": step, "username": "bridge"} for step in ("createClient", "disableClient")]
    thief.publish("$CONTROL/dynamic-security/v1", json.dumps({"commands": steps}).encode())
    assert not bridge.disconnected.wait(1.0)


def test_more_than_the_wire_allows_ends_the_connection_of_who_sends_it(world: World, bridge: Peer, thief: Peer) -> None:
    thief.publish(frame_topic(THIEF, "events"), b"x" * 64 * 1024)
    assert thief.disconnected.is_set() is False
    thief.publish(frame_topic(THIEF, "events"), b"x" * 200 * 1024)
    assert thief.disconnected.wait(5)
    assert not bridge.disconnected.is_set()
    assert max(len(payload) for _, payload in bridge.heard()) == 64 * 1024


def test_one_frames_flood_leaves_the_others_served(world: World, bridge: Peer, thief: Peer, victim: Peer) -> None:
    assert victim.subscribe(frame_topic(VICTIM, "ack"))
    for _ in range(2_000):
        thief.flood(frame_topic(THIEF, "events"), b"x" * 4096)
    victim.publish(frame_topic(VICTIM, "hello"), b"through")
    assert bridge.hears(b"through", 20)
    bridge.publish(frame_topic(VICTIM, "ack"), b"back")
    assert victim.hears(b"back", 20)


def test_the_shipped_acl_names_every_kind_and_shard_there_is() -> None:
    lines = (DEPLOY / "acl").read_text().splitlines()
    written = {line.removeprefix("pattern write ") for line in lines if line.startswith("pattern write")}
    assert written == {f"frames/{shard:x}/%u/{kind}" for shard in range(16) for kind in UP}
    read = {line.removeprefix("pattern read ") for line in lines if line.startswith("pattern read")}
    assert read == {"repo/#", *(f"frames/+/%u/{kind}" for kind in DOWN)}
