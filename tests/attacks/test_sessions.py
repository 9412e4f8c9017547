"""A frame that knew another's client id could end its connections, and gains nothing by it.

What happens to the bridge's session is in ``tests/brokers/test_bridge.py``: there the bridge itself runs, over both
brokers.
"""

import time

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from protocol import topics
from tests.attacks.home import Home
from tests.device_agent.live import FRAME, OTHER, until
from tests.services import BrokerHandle

pytestmark = pytest.mark.slow


def test_takeover_of_another_frames_session(home: Home, broker: BrokerHandle) -> None:
    heard: list[str] = []
    ended = 0
    for _ in range(5):
        stolen = home.driver._client._client_id.decode()  # 128 random bits that nothing tells; suppose he had them
        issued = broker.client(OTHER)
        thief = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=stolen, clean_session=True, protocol=mqtt.MQTTv311)
        thief.tls_set(str(broker.ca), str(issued.cert), str(issued.key))
        thief.on_message = lambda _client, _data, message: heard.append(message.topic)
        thief.connect(broker.host, broker.port)
        thief.loop_start()
        for kind in ("desired", "ack", "answer"):
            thief.subscribe(topics.frame_topic(FRAME, kind))
        home.note(5)
        end = time.monotonic() + 0.6
        while time.monotonic() < end and home.core.online:
            time.sleep(0.02)
        ended += not home.core.online
        thief.disconnect()
        thief.loop_stop()
        until(lambda: home.core.online)
    assert ended, "he did end connections"
    assert heard == [], "the frame's topics stay closed to him"
    home.unharmed()
    newer = home.repository.release("portrait", "2.0", [home.base])
    home.offer(home.repository, newer)
    home.settled("committed")
