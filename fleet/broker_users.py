"""The embedded broker's users and what each may do, as NATS reads them (``include`` it within ``authorization {}``).

The broker maps a certificate's SAN DNS to the user of that name. NATS has no templates in a static configuration, so
every frame has an entry of its own. MQTT's ``/`` is NATS' ``.``; ``topic/#`` includes its parent, so a frame's own down
topics stand there with and without ``.>``.
"""

import json
from collections.abc import Iterable

from fleet.pki import BRIDGE
from protocol.topics import DOWN, UP, frame_topic

_MQTT_SESSION = "$MQTT.sub.>"
"""Where NATS' MQTT side delivers QoS 1 messages to its own clients."""

_BRIDGE_PUBLISHES = ["repo.>", *(f"frames.*.*.{kind}" for kind in DOWN)]
_BRIDGE_READS = ["repo.>", "frames.>", _MQTT_SESSION]


def broker_users(frame_ids: Iterable[str]) -> str:
    """The file's text: the bridge and these frames. Raises ValueError for what cannot be a frame's id."""
    entries = [_entry(BRIDGE, _BRIDGE_PUBLISHES, _BRIDGE_READS)]
    entries += [_frame(frame_id) for frame_id in sorted(set(frame_ids))]
    return "users: [\n" + "\n".join(entries) + "\n]\n"


def _frame(frame_id: str) -> str:
    up = [frame_topic(frame_id, kind).replace("/", ".") for kind in UP]
    down = [frame_topic(frame_id, kind).replace("/", ".") for kind in DOWN]
    return _entry(frame_id, up, ["repo.>", *down, *(f"{subject}.>" for subject in down), _MQTT_SESSION])


def _entry(user: str, publish: list[str], subscribe: list[str]) -> str:
    return json.dumps(
        {
            "user": user,
            "permissions": {"publish": {"allow": publish}, "subscribe": {"allow": subscribe}},
            "allowed_connection_types": ["MQTT"],
        }
    )
