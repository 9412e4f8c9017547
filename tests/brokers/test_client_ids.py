"""Whoever knows a client id can take its session over with any valid certificate, so nobody does: 128 random bits, new
at every connection, in no log of ours. Mosquitto tells them here because it is asked to, unlike as we ship it."""

import re
from pathlib import Path

import pytest

from protocol.topics import frame_topic
from tests.brokers.test_agent import Handle
from tests.brokers.world import World, wait_for
from tests.device_agent.live import LiveAgent
from tests.device_agent.repository import Repository

pytestmark = pytest.mark.slow


@pytest.fixture
def chatty(tmp_path: Path) -> World:
    """Mosquitto that logs who connects."""
    world = World.build("mosquitto", tmp_path / "mosquitto")
    config = tmp_path / "mosquitto" / "mosquitto.conf"
    text = config.read_text().replace("connection_messages false", "connection_messages true")
    text = re.sub("(?m)^log_dest .*$", "log_dest stderr", text)  # stdout comes in blocks, many seconds late
    config.write_text(f"{text}\nlog_type all\n")
    world.broker.kill9()
    world.broker.start()
    return world


def ids(world: World) -> list[str]:
    found: list[str] = re.findall(r"New client connected from \S+ as (\S+) \(", world.broker.log.read_text())
    return found


def test_an_agents_are_random_and_new_at_every_start_and_in_no_log(chatty: World, tmp_path: Path) -> None:
    try:
        (credential,) = chatty.admit("wall")
        agent = LiveAgent(tmp_path / "frame", Handle(chatty, credential), "wall", Repository().anchors())  # type: ignore[arg-type]
        for start in (1, 2):
            agent.start("--sink", "none", "--log-level", "DEBUG")
            assert wait_for(lambda start=start: len(ids(chatty)) >= start, 20), agent.log.read_text()  # type: ignore[misc]
            agent.stop()
        seen = ids(chatty)
        assert len(set(seen)) == len(seen) >= 2
        for one in seen:
            assert re.fullmatch(r"[0-9a-f]{32}", one), one
            kept = [path for path in agent.folder.rglob("*") if path.is_file() and one.encode() in path.read_bytes()]
            assert kept == [], "neither its log nor its folder tells it"
    finally:
        chatty.close()


def test_the_brokers_as_we_ship_them_log_none_of_who_keeps_to_its_topics(world: World) -> None:
    """NATS names a client that breaks its permissions."""
    (credential,) = world.admit("silent")
    own = "0123456789abcdef0123456789abcdef"
    peer = world.connected(credential, client_id=own)
    peer.publish(frame_topic("silent", "hello"), b"hello")
    peer.drop()
    again = world.connected(credential, client_id=own)
    again.close()
    assert own not in world.broker.log.read_text()
