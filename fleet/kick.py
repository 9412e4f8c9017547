"""Ending live connections on Mosquitto, which does not do so by itself when a certificate is revoked.

Its dynamic security plugin ends all connections of a user that is disabled. The plugin rules nobody here (the ACL file
does): a frame's name is made known to it, disabled and forgotten again. Connections with another, good certificate of
the same frame are ended too and come back at once.
"""

import json
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from django.conf import settings
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

TOPIC = "$CONTROL/dynamic-security/v1"
PATIENCE_S = 5.0
AT_ONCE = 500
"""Frames in one message."""


@dataclass(frozen=True, slots=True)
class Kicker:
    """Connects as the bridge, for as long as a kick takes."""

    host: str
    port: int
    ca: str
    cert: str
    key: str

    @classmethod
    def from_settings(cls) -> "Kicker":
        """To the broker that the bridge uses."""
        parts = urlsplit(settings.MQTT_URL)
        return cls(parts.hostname or "", parts.port or 8883, settings.MQTT_CA, settings.MQTT_CERT, settings.MQTT_KEY)

    def kick(self, frame_ids: Sequence[str]) -> None:
        """End every connection of these frames. Raises OSError when the broker does not take the order."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=secrets.token_hex(16), protocol=mqtt.MQTTv311)
        client.tls_set(self.ca, self.cert, self.key)
        welcome = threading.Event()

        def on_connect(_client: object, _data: object, _flags: object, code: ReasonCode, _properties: Any) -> None:
            if not code.is_failure:
                welcome.set()

        client.on_connect = on_connect
        client.connect(self.host, self.port)
        client.loop_start()
        try:
            if not welcome.wait(PATIENCE_S):
                raise ConnectionError("the broker lets nobody in to end connections: check MQTT_CERT and its ACL file")
            for start in range(0, len(frame_ids), AT_ONCE):
                info = client.publish(TOPIC, _order(frame_ids[start : start + AT_ONCE]), qos=1)
                info.wait_for_publish(PATIENCE_S)
                if not info.is_published():
                    raise ConnectionError("the broker does not take the order to end connections")
        finally:
            client.disconnect()
            client.loop_stop()


def _order(frame_ids: Sequence[str]) -> bytes:
    steps = ("createClient", "disableClient", "deleteClient")
    return json.dumps(
        {"commands": [{"command": step, "username": one} for one in frame_ids for step in steps]}
    ).encode()
