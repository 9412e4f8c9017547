"""What a frame refuses: each with one clear sentence that the console shows, while it keeps playing what it had."""

import json
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion

from device_agent.adapters import pack
from framectl.offline import OfflineFolder
from framectl.signing import ReleaseRequest, sign_release
from protocol import topics
from protocol.chunks import build_index
from protocol.codec import encode
from protocol.envelope import DESIRED_STATE_TYPE, Envelope, Signature, signed_bytes
from protocol.messages import DesiredState
from standalone.demo import GOOD, NAME, PHOTO, VOICE
from standalone.processes import ServiceError
from tests.end_to_end.world import AGENT, Facts, framectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


# --- talking to the world ---------------------------------------------------------------------------------------------


def frame(world: Facts, frame_id: str = AGENT) -> dict[str, Any]:
    return dict(framectl(world, "frames", "show", frame_id))


def eventually(check: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)
    return found


def health(world: Facts, kind: str, frame_id: str = AGENT) -> str:
    """The sentence of the frame's newest HealthEvent of this kind, empty when there is none."""
    events = frame(world, frame_id)["health_events"]
    return next((str(event["detail"]) for event in events if event["kind"] == kind), "")


def console(world: Facts, path: str) -> str:
    """A page of the console as text, after logging in."""
    with httpx.Client(base_url=world.server, follow_redirects=True) as client:
        client.get("/login/")
        form = {"username": world.user, "password": world.password, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        client.post("/login/", data=form, headers={"Referer": f"{world.server}/login/"})
        answer = client.get(path)
        assert answer.status_code == 200
        return answer.text


def page(world: Facts, path: str, body: dict[str, str] | None = None) -> httpx.Response:
    """The household's page of the full agent."""
    address = f"http://127.0.0.1:{world.page_port}{path}"
    return httpx.get(address) if body is None else httpx.post(address, json=body, timeout=60)


def publish_as_the_bridge(world: Facts, topic: str, payload: bytes) -> None:
    """What whoever stole the bridge's certificate could publish; retained."""
    tls = world.folder / "server" / "tls" / "bridge"
    context = ssl.create_default_context(cafile=str(world.folder / "server" / "ca" / "ca.pem"))
    context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    client.tls_set_context(context)
    client.connect("127.0.0.1", world.broker_port)
    client.loop_start()
    try:
        client.publish(topic, payload, qos=1, retain=True).wait_for_publish(10)
    finally:
        client.disconnect()
        client.loop_stop()


def start_rollout(world: Facts, version: str) -> str:
    started = framectl(
        world, "rollout", "start", "--release", f"{NAME} {version}", "--group", "agent", "--stages", "100"
    )
    return str(started["id"])


@pytest.fixture(scope="module", autouse=True)
def group(world: Facts) -> None:
    """A FrameGroup with the full agent alone."""
    framectl(world, "groups", "create", "agent", "--query", f"id={AGENT}")


@pytest.fixture(autouse=True)
def keeps_playing(world: Facts) -> Any:
    """Before and after everything here: the frame plays release 1.0, and a film still comes out."""
    yield
    status = page(world, "/status").json()
    assert status["release_name"] == f"{NAME} 1.0"
    played = page(world, "/play", {"photo": str(copied(world, PHOTO)), "voice": str(copied(world, VOICE))})
    assert played.status_code == 200, played.text


def copied(world: Facts, path: Path) -> Path:
    """The file in a folder from which the frame may play."""
    target = world.folder / path.name
    if not target.exists():
        shutil.copyfile(path, target)
    return target


def sign(world: Facts, version: str, adapter: Path) -> Path:
    """Sign with the offline keys, as framectl does."""
    package = world.folder / f"{version}.zip"
    request = ReleaseRequest(NAME, version, None, (NAME, "1.0"), (adapter,))
    with OfflineFolder.open(world.folder / "offline") as folder:
        sign_release(folder, request, package, datetime.now(UTC))
    return package


# --- what is refused --------------------------------------------------------------------------------------------------


def test_framectl_does_not_sign_an_adapter_for_another_base(world: Facts, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.adapter"
    foreign.write_bytes(foreign_adapter())
    what = ("--name", NAME, "--version", "6.0", "--base-release", f"{NAME} 1.0", "--adapter", str(foreign))
    with pytest.raises(ServiceError, match=r"was trained for the base model .* but this release has"):
        framectl(
            world,
            "release",
            "sign",
            "--offline",
            str(world.folder / "offline"),
            *what,
            "--out",
            str(tmp_path / "x.zip"),
        )


def test_an_adapter_for_another_base_is_refused_by_the_frame_even_when_signed(
    world: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "foreign.adapter"
    foreign.write_bytes(foreign_adapter())
    base = next(ref for ref in released(world, "1.0") if ref["kind"] == "base_model")["sha256"]
    # Somebody with the offline keys and a changed framectl.
    monkeypatch.setattr("framectl.signing.base_model_of", lambda path: base)
    framectl(world, "release", "push", str(sign(world, "6.1", foreign)))
    rollout = start_rollout(world, "6.1")
    sentence = eventually(lambda: health(world, "wrong_base_model"), "the frame refuses the adapter")
    assert "base model" in sentence
    assert visible(sentence) in console(world, f"/frames/{AGENT}/")
    assert visible(sentence) in console(world, f"/rollouts/{rollout}/")
    framectl(world, "rollout", "abort", rollout, "--reason", "wrong base")


def test_a_tampered_chunk_is_refused_and_the_next_try_succeeds(world: Facts, tmp_path: Path) -> None:
    other = tmp_path / "other.adapter"
    other.write_bytes(changed_adapter())
    framectl(world, "release", "push", str(sign(world, "6.2", other)))
    chunk = build_index([other.read_bytes()]).chunk_hashes[1]
    publish_as_the_bridge(world, topics.chunk_topic(chunk), b"tampered" * 8192)
    rollout = start_rollout(world, "6.2")
    sentence = eventually(lambda: health(world, "tampered_chunk"), "the frame refuses the chunk")
    assert f"Chunk {chunk[:12]} does not hash to its name" in sentence
    assert visible(sentence) in console(world, f"/rollouts/{rollout}/")
    framectl(world, "rollout", "abort", rollout, "--reason", "tampered")


def test_a_desired_state_with_a_wrong_signature_is_refused(world: Facts) -> None:
    now = int(time.time() * 1000)
    payload = encode(DesiredState(frame_id=AGENT, version=10**6, issued_at=now, expires_at=now + 3_600_000))
    forger = Ed25519PrivateKey.generate()
    signature = Signature("f" * 64, forger.sign(signed_bytes(DESIRED_STATE_TYPE, payload)))
    forged = encode(Envelope(DESIRED_STATE_TYPE, payload, [signature]))
    held = frame(world)["desired_version"]
    publish_as_the_bridge(world, topics.frame_topic(AGENT, "desired"), forged)
    sentence = eventually(lambda: health(world, "wrong_signature"), "the frame refuses the envelope")
    assert visible(sentence) in console(world, f"/frames/{AGENT}/")
    assert frame(world)["desired_version"] == held


def test_a_frame_with_another_frames_certificate_installs_nothing_and_is_shown(world: Facts, tmp_path: Path) -> None:
    thief = tmp_path / "thief"
    shutil.copytree(world.folder / "frames" / "sim-0001", thief / "identity")
    shutil.copytree(world.folder / "trust", thief / "trust")
    who = json.loads((thief / "identity" / "frame.json").read_text())
    (thief / "identity" / "frame.json").write_text(json.dumps(who | {"frame_id": AGENT}))
    mqtts = f"mqtts://127.0.0.1:{world.broker_port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "device_agent", "run", "--dir", str(thief), "--mqtt", mqtts],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        sentence = eventually(lambda: health(world, "wrong_identity", "sim-0001"), "the certificate's owner is told")
        assert AGENT in sentence
        assert "sim-0001" in sentence
        assert visible(sentence) in console(world, "/frames/sim-0001/")
        assert not list((thief / "store").glob("*")) if (thief / "store").exists() else True
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [("noise.png", "noise", "no face"), ("broken.wav", b"RIFF\x00\x00\x00\x00WAVEfmt ", "cut off")],
)
def test_a_photo_without_a_face_and_a_broken_voice_are_refused(
    world: Facts, name: str, content: bytes | str, expected: str
) -> None:
    bad = world.folder / name
    bad.write_bytes(noise_png() if isinstance(content, str) else content)
    photo, voice = (bad, copied(world, VOICE)) if name.endswith("png") else (copied(world, PHOTO), bad)
    answer = page(world, "/play", {"photo": str(photo), "voice": str(voice)})
    assert answer.status_code == 422
    sentence = answer.json()["detail"]
    assert expected in sentence.lower()
    eventually(lambda: health(world, "playback_refused") == sentence, "ops can see why")
    assert visible(sentence) in console(world, f"/frames/{AGENT}/")


# --- bad things -------------------------------------------------------------------------------------------------------


def released(world: Facts, version: str) -> list[dict[str, Any]]:
    releases = framectl(world, "release", "list")
    return list(next(release for release in releases if release["version"] == version)["artifacts"])


def foreign_adapter() -> bytes:
    """The Mandarin adapter, bound to a base model that nobody has."""
    return packed(base_model="ab" * 32)


def changed_adapter() -> bytes:
    """The Mandarin adapter under another name, so that its chunks are others."""
    return packed(name="changed", scale=0.5)


def packed(*, base_model: str | None = None, name: str = "mandarin", scale: float = 1.0) -> bytes:
    data = GOOD.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = msgspec.json.decode(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}
    for key, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = data[8 + length + begin : 8 + length + end]
        tensors[key] = np.frombuffer(raw, np.float16).reshape(entry["shape"]).astype(np.float32) * np.float32(scale)
    return pack(
        tensors,
        base_model=base_model or metadata["base_model"],
        rank=int(metadata["rank"]),
        name=name,
        segment=metadata["segment"],
    )


def noise_png() -> bytes:
    import cv2

    noise = np.random.default_rng(1).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".png", noise)[1].tobytes())


def visible(sentence: str) -> str:
    """The part of a sentence that no HTML escaping touches."""
    parts = [part for mark in "'\"&<>" for part in [sentence.partition(mark)[0]]]
    return min(parts, key=len)
