"""The embedded broker: a client is who its certificate says, may do what its entry says; what is retained stays."""

import json
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from standalone.broker import Broker, write_config
from standalone.processes import ServiceError
from tests.services import BrokerHandle, issue_test_certificate, mqtt_broker, test_authority, user
from tests.standalone.clients import REFUSED, TestClient, connected, tls_context

pytestmark = pytest.mark.slow


def frame(frame_id: str) -> dict[str, object]:
    """What a frame may do, with shard 0 for all."""
    return user(
        frame_id,
        publish=[f"frames/0/{frame_id}/{kind}" for kind in ("hello", "reported", "events")],
        subscribe=["repo/#", f"frames/0/{frame_id}/desired", f"frames/0/{frame_id}/ack"],
    )


USERS = [user("bridge", publish=["repo/#", "frames/#"], subscribe=["repo/#", "frames/#"]), frame("a"), frame("b")]


CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"
CONNACK = b"\x20\x02\x00\x00"


def first_answer(broker: BrokerHandle, context: ssl.SSLContext) -> bytes:
    """What the broker says to an MQTT CONNECT over TLS; nothing when it hangs up instead."""
    with socket.create_connection((broker.host, broker.port), timeout=5) as raw:
        try:
            wrapped = context.wrap_socket(raw, server_hostname=broker.host)
            wrapped.sendall(CONNECT)
            return wrapped.recv(4)
        except (ssl.SSLError, ConnectionError):
            return b""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerHandle]:
    with mqtt_broker(tmp_path_factory.mktemp("broker"), USERS) as handle:
        yield handle


@pytest.fixture
def broker(running: BrokerHandle) -> Iterator[BrokerHandle]:
    """The module's broker, running and with its first users, whatever the test before did."""
    yield running
    if running.broker.pid is None:
        running.start()
    if json.loads(running.users_file.read_text().removeprefix("users: ")) != USERS:
        running.reload(USERS)


def test_a_message_goes_from_a_frame_to_the_bridge_and_back(broker: BrokerHandle) -> None:
    with connected(broker, "bridge") as bridge, connected(broker, "a") as a:
        assert bridge.subscribe("frames/+/+/hello", 1) == 1
        assert a.subscribe("frames/0/a/desired") == 0
        a.publish("frames/0/a/hello", b"here")
        assert bridge.next_payload() == b"here"
        bridge.publish("frames/0/a/desired", b"run 1.1")
        assert a.next_payload() == b"run 1.1"


def test_a_client_without_a_certificate_is_refused(broker: BrokerHandle) -> None:
    assert first_answer(broker, tls_context(broker, None)) == b""


def test_a_certificate_of_another_authority_is_refused(broker: BrokerHandle, tmp_path: Path) -> None:
    foreign = issue_test_certificate(tmp_path, "a")
    context = tls_context(broker, None)
    context.load_cert_chain(foreign.cert, foreign.key)
    assert first_answer(broker, context) == b""


def test_an_expired_certificate_is_refused(broker: BrokerHandle) -> None:
    issue_test_certificate(broker.authority.folder, "lapsed", days=-1)
    assert first_answer(broker, tls_context(broker, "lapsed")) == b""


def test_a_certificate_of_its_own_authority_is_answered(broker: BrokerHandle) -> None:
    assert first_answer(broker, tls_context(broker, "a")) == CONNACK


def test_a_valid_certificate_without_a_user_is_refused(broker: BrokerHandle) -> None:
    stranger = TestClient(broker, "stranger")
    assert stranger.connect() != 0
    stranger.close()


def test_a_frame_cannot_read_what_is_another_frames(broker: BrokerHandle) -> None:
    with connected(broker, "a") as a:
        assert a.subscribe("frames/0/b/desired") == REFUSED
        assert a.subscribe("frames/0/a/desired") == 0
        assert a.subscribe("frames/#") == REFUSED
        assert a.subscribe("repo/chunk/00", 1) == 1


def test_a_frame_cannot_speak_for_another_frame_or_change_the_repository(broker: BrokerHandle) -> None:
    with connected(broker, "bridge") as bridge, connected(broker, "a") as a:
        bridge.subscribe("frames/+/+/events", 1)
        bridge.subscribe("repo/#", 1)
        a.publish("frames/0/b/events", b"forged")
        a.publish("repo/head", b"forged", retain=True)
        a.publish("frames/0/a/events", b"honest")
        assert bridge.next_payload() == b"honest"
        assert bridge.next_payload(timeout=0.5) is None
        assert a.subscribe("repo/head") == 0
        assert a.next_payload(timeout=0.5) is None


def test_retained_messages_survive_kill_9(broker: BrokerHandle) -> None:
    chunks = {f"repo/chunk/{number:02x}": bytes([number]) * 65_536 for number in range(20)}
    with connected(broker, "bridge") as bridge:
        for topic, payload in chunks.items():
            bridge.publish(topic, payload, retain=True)
    broker.kill9()
    broker.start()
    with connected(broker, "a") as a:
        for topic, payload in chunks.items():
            got = None
            for _ in range(5):  # just after a start a subscriber may hear nothing and has to ask again
                assert a.subscribe(topic) == 0
                if got := a.next_payload(timeout=2.0):
                    break
            assert got == payload


def test_a_stopped_broker_starts_again_on_its_port_with_what_it_kept(broker: BrokerHandle) -> None:
    port = broker.port
    with connected(broker, "bridge") as bridge:
        bridge.publish("repo/meta/root/1", b"root", retain=True)
    broker.restart()
    assert broker.port == port
    with connected(broker, "bridge") as bridge:
        for _ in range(5):
            bridge.subscribe("repo/meta/root/1")
            if bridge.next_payload(timeout=2.0) == b"root":
                return
    pytest.fail("the retained message is gone")


def test_a_reload_admits_a_new_user_and_keeps_those_who_are_connected(broker: BrokerHandle) -> None:
    with connected(broker, "bridge") as bridge:
        assert bridge.subscribe("frames/+/+/hello", 1) == 1
        broker.reload([*USERS, frame("c")])
        with connected(broker, "c") as c:
            c.publish("frames/0/c/hello", b"born")
        assert bridge.next_payload() == b"born"
        assert not bridge.disconnected.is_set()


def test_a_reload_throws_out_a_user_that_is_gone(broker: BrokerHandle) -> None:
    a = TestClient(broker, "a")
    assert a.connect() == 0
    broker.reload([entry for entry in USERS if entry["user"] != "a"])
    assert a.disconnected.wait(10)
    a.close()
    again = TestClient(broker, "a")
    assert again.connect() != 0
    again.close()


@pytest.mark.parametrize("users", [[], None], ids=["an empty list", "no file yet"])
def test_without_users_nobody_is_let_in(broker: BrokerHandle, tmp_path: Path, users: list[object] | None) -> None:
    server = broker.authority.issue("broker", server=True)
    users_file = tmp_path / "users.conf"
    if users is not None:
        users_file.write_text("users: []\n")
    empty = Broker(tmp_path / "nats.conf")
    empty.configure(store_dir=tmp_path / "store", ca=broker.ca, cert=server.cert, key=server.key, users_file=users_file)
    try:
        empty.start()
        handle = BrokerHandle(empty, broker.authority, users_file)
        assert first_answer(handle, tls_context(handle, "a")) != CONNACK
        assert first_answer(handle, tls_context(handle, "nobody.invalid")) != CONNACK
    finally:
        empty.stop()


@pytest.mark.parametrize("identity", [None, "a", "bridge"])
def test_the_servers_own_protocol_lets_nobody_in(broker: BrokerHandle, identity: str | None) -> None:
    log = broker.broker.log.read_text()
    ports = re.findall(r"Listening for client connections on 127\.0\.0\.1:(\d+)", log)
    with socket.create_connection((broker.host, int(ports[-1])), 5) as raw:
        assert b'"tls_required":true' in raw.recv(4096)
        answer = b""
        try:
            wrapped = tls_context(broker, identity).wrap_socket(raw, server_hostname=broker.host)
            wrapped.sendall(b'CONNECT {"verbose":true}\r\nPING\r\n')
            while piece := wrapped.recv(4096):
                answer += piece
        except (ssl.SSLError, ConnectionError):
            pass
    assert b"PONG" not in answer
    if identity is not None:
        assert b"Authorization Violation" in answer


def test_a_missing_tls_file_is_said(tmp_path: Path) -> None:
    authority = test_authority(tmp_path / "ca")
    with pytest.raises(ServiceError, match=r"TLS file .*broker\.pem is missing"):
        write_config(
            tmp_path / "nats.conf",
            port=1,
            store_dir=tmp_path / "store",
            ca=authority.ca,
            cert=tmp_path / "broker.pem",
            key=tmp_path / "broker-key.pem",
            users_file=tmp_path / "users.conf",
        )


def test_a_users_file_that_is_not_understood_is_said_before_the_start(broker: BrokerHandle, tmp_path: Path) -> None:
    server = broker.authority.issue("broker", server=True)
    users_file = tmp_path / "users.conf"
    users_file.write_text("users: [ {user: \n")
    other = Broker(tmp_path / "nats.conf")
    other.configure(store_dir=tmp_path / "store", ca=broker.ca, cert=server.cert, key=server.key, users_file=users_file)
    with pytest.raises(ServiceError, match=r"does not accept .*nats\.conf"):
        other.check()
