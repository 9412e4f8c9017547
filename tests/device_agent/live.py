"""The agent as a process against a real broker, and the backend's side of the conversation over paho."""

import json
import shutil
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from protocol import topics
from protocol.codec import encode
from protocol.messages import Ack, AnyEvent, Hello, ReportedState, TelemetryBatch
from tests.reference_model.artifacts import ASSETS
from tests.services import BrokerHandle, user

BACKEND = "bridge"
FRAME = "frame-1"
OTHER = "frame-2"


def backend_user() -> dict[str, Any]:
    return user(BACKEND, publish=["repo/#", "frames/#"], subscribe=["frames/#"])


def frame_user(frame_id: str) -> dict[str, Any]:
    return user(
        frame_id,
        publish=[topics.frame_topic(frame_id, kind) for kind in topics.UP],
        subscribe=["repo/#", *(topics.frame_topic(frame_id, kind) for kind in topics.DOWN)],
    )


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not happen in time")
        time.sleep(0.02)


class Backend:
    """Publishes retained messages, answers hello, acknowledges events once they are kept."""

    def __init__(self, broker: BrokerHandle, tls: ssl.SSLContext | None = None) -> None:
        """``tls`` for a broker that nobody should believe."""
        self.reports: list[ReportedState] = []
        self.events: dict[tuple[str, int], AnyEvent] = {}
        self.batches: list[tuple[str, TelemetryBatch]] = []
        self.hellos: list[Hello] = []
        self.desired_version: dict[str, int] = {}
        self.answering = True
        self._ready = threading.Event()
        self.client = client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        issued = broker.client(BACKEND)
        if tls is None:
            tls = ssl.create_default_context(cafile=str(broker.ca))
        tls.load_cert_chain(issued.cert, issued.key)
        client.tls_set_context(tls)
        client.on_connect = self._connected
        client.on_subscribe = lambda *_: self._ready.set()
        client.on_message = self._took
        client.reconnect_delay_set(1, 1)
        client.connect(broker.host, broker.port)
        client.loop_start()
        assert self._ready.wait(10)

    def put(self, retained: dict[str, bytes]) -> None:
        """Publish retained messages, a few at a time, and wait until the broker has them."""
        window: list[mqtt.MQTTMessageInfo] = []
        for topic, payload in retained.items():
            window.append(self.client.publish(topic, payload, qos=1, retain=True))
            if len(window) >= 50:
                window.pop(0).wait_for_publish(20)
        for info in window:
            info.wait_for_publish(20)

    def assign(self, frame_id: str, version: int, envelope: bytes) -> None:
        self.desired_version[frame_id] = version
        self.put({topics.frame_topic(frame_id, "desired"): envelope})

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _connected(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe("frames/+/+/#", qos=1)

    def _took(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        topic = topics.parse_up(message.topic)
        if topic is None:
            return
        if topic.kind == "reported":
            self.reports.append(msgspec.json.decode(message.payload, type=ReportedState))
        elif topic.kind == "hello":
            hello = msgspec.json.decode(message.payload, type=Hello)
            self.hellos.append(hello)
            self._ack(topic.frame_id, hello.outbox_id, hello=True)
        else:
            batch = msgspec.json.decode(message.payload, type=TelemetryBatch)
            self.batches.append((topic.frame_id, batch))
            if self.answering:
                self.events |= {(batch.outbox_id, event.seq): event for event in batch.events}
            self._ack(topic.frame_id, batch.outbox_id)

    def _ack(self, frame_id: str, outbox_id: str, *, hello: bool = False) -> None:
        if not self.answering:
            return
        seq = max((number for name, number in list(self.events) if name == outbox_id), default=0)
        desired_version = self.desired_version.get(frame_id, 0)
        ack = Ack(outbox_id=outbox_id, seq=seq, desired_version=desired_version, hello=hello or msgspec.UNSET)
        self.client.publish(topics.frame_topic(frame_id, "ack"), encode(ack), qos=0)


class LiveAgent:
    """``python -m device_agent run`` over a folder made by hand, the way enrolment leaves it."""

    def __init__(
        self,
        folder: Path,
        broker: BrokerHandle,
        frame_id: str,
        anchors: dict[str, bytes],
        certificate: str | None = None,
    ) -> None:
        self.folder = folder
        self.broker = broker
        self.log = folder / "agent.log"
        identity = folder / "identity"
        identity.mkdir(parents=True)
        (folder / "trust").mkdir()
        issued = broker.client(certificate or frame_id)
        shutil.copy(issued.cert, identity / "cert.pem")
        shutil.copy(issued.key, identity / "key.pem")
        shutil.copy(broker.ca, identity / "ca.pem")
        frame = {"frame_id": frame_id, "locale": "zh", "hardware": "rk3588", "simulated": False}
        (identity / "frame.json").write_bytes(msgspec.json.encode(frame))
        for name, document in anchors.items():
            (folder / "trust" / f"{name}.json").write_bytes(document)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, within: tuple[str, ...] = ()) -> None:
        """Run it; ``within`` is a command that runs another one."""
        command = [
            *within,
            sys.executable,
            "-m",
            "device_agent",
            "run",
            "--dir",
            str(self.folder),
            "--mqtt",
            self.broker.url,
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*command, *arguments], stdout=log, stderr=log)

    def kill9(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end; returns its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(10)

    def page(self) -> str:
        """Address of its local page."""
        until((self.folder / "local.json").exists)
        return f"http://127.0.0.1:{msgspec.json.decode((self.folder / 'local.json').read_bytes())['port']}"

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and JSON of its page's answer; a body makes it a POST."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(self.page() + path, data, headers)  # noqa: S310  the agent's own page
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def lay_out_media(self) -> dict[str, str]:
        """Put a photo and a voice on the frame; the body of a request to play them."""
        media = self.folder / "media"
        media.mkdir(exist_ok=True)
        files = {"photo": media / "portrait.png", "voice": media / "voice-zh.wav"}
        for path in files.values():
            shutil.copy(ASSETS / path.name, path)
        return {kind: str(path) for kind, path in files.items()}
