"""The embedded broker's users and what each may do, as NATS reads them (``include`` it within an account).

The broker looks each SAN DNS name of a certificate up among its users. A user here is named
``<serial in hex>.<identity>``, the second of a client certificate's names, so it stands for one single certificate:
what is not listed does not get in, and whose entry goes is cut off at the next reload, while the frame's other
certificate stays. NATS has no templates in a static configuration, so every certificate has an entry of its own. MQTT's
``/`` is NATS' ``.``; ``topic/#`` includes its parent, so a frame's own down topics stand there with and without ``.>``.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

from fleet.pki import BRIDGE
from protocol.topics import DOWN, UP, frame_topic

_MQTT_SESSION = "$MQTT.sub.>"
"""Where NATS' MQTT side delivers QoS 1 messages to its own clients."""

_BRIDGE_PUBLISHES = ["repo.>", *(f"frames.*.*.{kind}" for kind in DOWN)]
_BRIDGE_READS = ["repo.>", *(f"frames.*.*.{kind}" for kind in UP), _MQTT_SESSION]
_SERIAL = re.compile(r"[1-9a-f][0-9a-f]{0,39}")


def broker_users(certificates: Iterable[tuple[str, str]], bridges: Iterable[str]) -> str:
    """The file's text. ``certificates``: (frame id, serial in hex) of each that may connect; ``bridges``: the serials
    of the bridge's own. Raises ValueError for what cannot be a frame's id or a serial number."""
    entries = [_entry(broker_user(BRIDGE, one), _BRIDGE_PUBLISHES, _BRIDGE_READS) for one in sorted(set(bridges))]
    entries += [_frame(*one) for one in sorted(set(certificates))]
    return "users: [\n" + "\n".join(entries) + "\n]\n"


def broker_user(identity: str, serial_hex: str) -> str:
    """The user that stands for one certificate."""
    if _SERIAL.fullmatch(serial_hex) is None:
        raise ValueError(f"{serial_hex!r} is no certificate's serial number in lower-case hex")
    return f"{serial_hex}.{identity}"


def serial_of(certificate: Path) -> str | None:
    """The serial number of the first certificate in a PEM file, None when there is none."""
    try:
        return f"{x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number:x}"
    except (OSError, ValueError):
        return None


def _frame(frame_id: str, serial_hex: str) -> str:
    up = [frame_topic(frame_id, kind).replace("/", ".") for kind in UP]
    down = [frame_topic(frame_id, kind).replace("/", ".") for kind in DOWN]
    may_read = ["repo.>", *down, *(f"{subject}.>" for subject in down), _MQTT_SESSION]
    return _entry(broker_user(frame_id, serial_hex), up, may_read)


def _entry(user: str, publish: list[str], subscribe: list[str]) -> str:
    return json.dumps(
        {
            "user": user,
            "permissions": {"publish": {"allow": publish}, "subscribe": {"allow": subscribe}},
            "allowed_connection_types": ["MQTT"],
        }
    )
