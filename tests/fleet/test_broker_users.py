"""The users file as the real broker reads it: each may do its own and nothing else."""

from collections.abc import Iterator

import pytest

from fleet.broker_users import broker_users
from protocol.topics import chunk_topic, frame_topic
from tests.fleet.mqtt_client import Client
from tests.services import BrokerHandle, mqtt_broker

FRAME, OTHER = "frame-1", "frame-2"
CHUNK = chunk_topic("a" * 64)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerHandle]:
    with mqtt_broker(tmp_path_factory.mktemp("broker")) as running:
        running.admit(FRAME, OTHER)
        yield running


@pytest.fixture
def bridge(broker: BrokerHandle) -> Iterator[Client]:
    client = Client(broker, "bridge")
    yield client
    client.stop()


@pytest.fixture
def frame(broker: BrokerHandle) -> Iterator[Client]:
    client = Client(broker, FRAME)
    yield client
    client.stop()


def test_a_frame_may_read_the_repository_and_its_own_topics(frame: Client) -> None:
    for topic in (CHUNK, "repo/head", frame_topic(FRAME, "desired"), frame_topic(FRAME, "ack")):
        assert frame.subscribe(topic), topic


def test_a_frame_may_not_listen_to_others_or_to_the_fleet(frame: Client) -> None:
    for topic in (
        frame_topic(OTHER, "desired"),
        frame_topic(OTHER, "ack"),
        frame_topic(FRAME, "events"),
        "frames/#",
        "#",
    ):
        assert not frame.subscribe(topic), topic


def test_the_bridge_hears_every_frame_and_only_what_a_frame_may_say(bridge: Client, frame: Client) -> None:
    for kind in ("hello", "reported", "events", "request"):
        assert bridge.subscribe(f"frames/+/+/{kind}", 1)
    frame.publish(frame_topic(OTHER, "events"), b"forged")
    frame.publish(frame_topic(FRAME, "events"), b"own")
    assert bridge.hears(frame_topic(FRAME, "events"), b"own")
    assert b"forged" not in [payload for _, payload in bridge.heard]


def test_frames_hear_the_bridge_and_cannot_speak_for_it(bridge: Client, frame: Client) -> None:
    frame.publish("repo/head", b"forged", retain=True)
    frame.publish(frame_topic(OTHER, "desired"), b"forged", retain=True)
    bridge.publish(CHUNK, b"chunk", retain=True)
    bridge.publish(frame_topic(FRAME, "desired"), b"desired", retain=True)
    assert frame.subscribe(CHUNK)
    assert frame.subscribe(frame_topic(FRAME, "desired"))
    assert frame.subscribe("repo/head")
    assert frame.hears(CHUNK, b"chunk")
    assert frame.hears(frame_topic(FRAME, "desired"), b"desired")
    bridge.publish("repo/head", b"head")
    assert frame.hears("repo/head", b"head")
    assert b"forged" not in [payload for _, payload in frame.heard]


def test_the_file_names_each_certificate_once_and_refuses_what_is_none() -> None:
    assert broker_users([("a", "1f"), ("a", "1f")], []).count('"user": "1f.a"') == 1
    with pytest.raises(ValueError, match="is no frame id"):
        broker_users([("a.>", "1f")], [])
    for serial in ("", "0f", "1F", "1.f", "*", "f" * 41):
        with pytest.raises(ValueError, match="serial number"):
            broker_users([("a", serial)], [])
