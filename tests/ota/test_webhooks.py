"""Webhooks, told over real HTTP: signed, again after a failure, and never at the engine's cost."""

import contextlib
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from fleet.models import AuditEntry, FrameGroup
from fleet.permissions import Role
from fleet.services.tokens import create_token
from ota import outgoing
from ota.models import Release, Rollout, Webhook, WebhookDelivery
from ota.services import deliveries, rollouts, webhooks
from protocol.errors import Refused
from tests.fleet.factories import make_user
from tests.ota.world import Enrol

pytestmark = pytest.mark.django_db


class Receiver(ThreadingHTTPServer):
    """Answers ``statuses`` in turn, then 200; keeps what it was sent. ``hold`` is waited for before each answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?for=fleet"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        self.server.hold.wait(30)
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.FRAMEFLEET_WEBHOOKS_PRIVATE = True
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.hold.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def rollout(release_1_0: Release, zh: FrameGroup, frames: Enrol, receiver: Receiver) -> Rollout:
    """Nobody was told of its start."""
    frames(10)
    return rollouts.start(release_1_0, zh, [0.5, 1.0], "li", "")


def pause(rollout: Rollout) -> None:
    rollouts.command(rollout.pk, "pause", str(Rollout.objects.get(pk=rollout.pk).revision), "li", "lunch")


def resume(rollout: Rollout) -> None:
    rollouts.command(rollout.pk, "resume", str(Rollout.objects.get(pk=rollout.pk).revision), "li", "back")


def test_an_event_is_told_with_its_rollout_and_a_signature_that_checks(rollout: Rollout, receiver: Receiver) -> None:
    webhook = webhooks.create(receiver.url, ["paused"], "li")
    pause(rollout)
    resume(rollout)
    assert deliveries.deliver_due() == 1
    ((headers, body),) = receiver.got
    stamp, _, digest = headers["Framefleet-Signature"].removeprefix("t=").partition(",v1=")
    signed = hmac.new(webhook.secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert digest == signed
    assert abs(int(stamp) - time.time()) < 60
    told = json.loads(body)
    assert (told["event"]["kind"], told["event"]["actor"], told["event"]["reason"]) == ("paused", "li", "lunch")
    assert (told["rollout"]["id"], told["rollout"]["release"]) == (rollout.pk, "talking-portrait 1.0")
    assert (told["verdict"], told["benefit"]) == (None, [])
    assert headers["Framefleet-Delivery"] == str(told["delivery"])
    row = WebhookDelivery.objects.get()
    assert (row.state, row.attempts, row.last_status) == ("delivered", 1, 200)
    assert deliveries.deliver_due() == 0


def test_a_failure_is_told_again_later_in_the_same_words(rollout: Rollout, receiver: Receiver) -> None:
    webhooks.create(receiver.url, ["paused", "resumed"], "li")
    pause(rollout)
    resume(rollout)
    receiver.statuses = [500, 503]
    now = timezone.now()
    for seconds in (0, 11, 120):
        deliveries.deliver_due(now + timedelta(seconds=seconds))
    # The first failed, so the second waited; while it fails, one at a time is tried.
    kinds = [headers["Framefleet-Event"] for headers, _ in receiver.got]
    assert kinds == ["paused", "resumed", "paused"]
    assert receiver.got[0][1] == receiver.got[2][1]
    deliveries.deliver_due(now + timedelta(seconds=240))
    assert set(WebhookDelivery.objects.values_list("state", "last_status")) == {("delivered", 200)}
    assert Webhook.objects.get().failing_since is None


def test_a_receiver_that_stays_dead_is_given_up_after_a_bounded_number_of_tries(
    rollout: Rollout, receiver: Receiver
) -> None:
    webhooks.create(receiver.url, ["paused"], "li")
    pause(rollout)
    receiver.statuses = [500] * 100
    later = timezone.now()
    for _ in range(2 * deliveries.TRIES):
        later += timedelta(hours=9)
        deliveries.deliver_due(later)
    row = WebhookDelivery.objects.get()
    assert (row.state, row.attempts, row.last_error) == ("failed", deliveries.TRIES, "It answered 500.")
    assert len(receiver.got) == deliveries.TRIES


@pytest.mark.parametrize("status", [301, 307])
def test_redirects_are_not_followed(rollout: Rollout, receiver: Receiver, status: int) -> None:
    webhooks.create(receiver.url, [], "li")
    receiver.statuses = [status]
    pause(rollout)
    deliveries.deliver_due()
    assert "redirects are not followed" in WebhookDelivery.objects.get().last_error
    assert len(receiver.got) == 1


def test_an_event_that_is_undone_is_never_told(rollout: Rollout, receiver: Receiver) -> None:
    webhooks.create(receiver.url, [], "li")
    with pytest.raises(rollouts.NotAllowed):
        resume(rollout)
    assert not WebhookDelivery.objects.exists()


def test_what_waits_for_a_receiver_that_is_gone_is_bounded(
    rollout: Rollout, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "WAITING_AT_MOST", 3)
    monkeypatch.setattr(deliveries, "KEPT", 2)
    webhooks.create(receiver.url, [], "li")
    for _ in range(4):
        pause(rollout)
        resume(rollout)
    receiver.statuses = [500]
    deliveries.deliver_due()
    assert WebhookDelivery.objects.filter(state="waiting").count() == 3
    assert WebhookDelivery.objects.filter(state="dropped").count() == 2
    assert "Too many" in WebhookDelivery.objects.filter(state="dropped")[0].last_error


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://example.com/", "https://"),
        ("https://127.0.0.1/", "not a public one"),
        ("https://localhost/", "not a public one"),
        ("https://10.1.2.3/", "not a public one"),
        ("https://169.254.169.254/latest/", "not a public one"),
        ("https://[::ffff:10.0.0.1]/", "not a public one"),
        ("https://[64:ff9b::a00:1]/", "not a public one"),
        ("https://[fe80::1%25eth0]/", "not a public one"),
        ("https://224.0.0.1/", "not a public one"),
        ("https://a:b@example.com/", "name or password"),
        ("ftp://example.com/", "cannot be read"),
        ("https:///x", "cannot be read"),
        ("https://example.com:0/", "cannot be read"),
        ("https://example.com:99999/", "cannot be read"),
        ("https://exa mple.com/", "no spaces"),
        ("https://example.com/" + "x" * 500, "at most 500"),
    ],
)
def test_an_address_that_leads_inside_is_refused_with_a_sentence(db: None, url: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        webhooks.create(url, [], "li")
    assert not Webhook.objects.exists()


def test_a_name_that_leads_inside_is_not_posted_to(receiver: Receiver, settings: Any) -> None:
    webhook = webhooks.create(receiver.url.replace("http://127.0.0.1", "https://localhost"), [], "li")
    settings.FRAMEFLEET_WEBHOOKS_PRIVATE = False
    # As it was made while private addresses were allowed, or as its name came to lead here later.
    row = deliveries.test(webhook)
    assert (row.state, row.last_status) == ("failed", None)
    assert "not a public" in row.last_error
    assert receiver.got == []


def test_only_admins_see_and_make_them_and_the_secret_is_shown_once(receiver: Receiver) -> None:
    admin, operator = client("li", Role.ADMIN), client("op", Role.RELEASER)
    assert operator.get("/api/v1/webhooks/").status_code == 403
    made = admin.post("/api/v1/webhooks/", {"url": receiver.url, "events": ["paused"]}, format="json").json()
    where = f"/api/v1/webhooks/{made['id']}/"
    assert len(made["secret"]) == 64
    (listed,) = admin.get("/api/v1/webhooks/").json()["results"]
    assert "secret" not in listed
    sent = admin.post(f"{where}test/").json()
    assert (sent["kind"], sent["state"], sent["last_status"]) == ("test", "delivered", 200)
    assert [row["id"] for row in admin.get(f"{where}deliveries/").json()["results"]] == [sent["id"]]
    odd = admin.post("/api/v1/webhooks/", {"url": receiver.url, "events": ["lunch"]}, format="json")
    assert "There is no event 'lunch'" in odd.json()["detail"]
    assert admin.put(where, {"active": False}, format="json").json()["active"] is False
    assert admin.delete(where).status_code == 204
    assert admin.get(where).status_code == 404
    audited = AuditEntry.objects.filter(action__startswith="webhook.").values_list("action", flat=True)
    assert sorted(audited) == ["webhook.created", "webhook.removed", "webhook.switched"]
    assert not AuditEntry.objects.filter(detail__icontains="/hook").exists()


def client(name: str, role: Role) -> APIClient:
    found = APIClient()
    found.credentials(HTTP_AUTHORIZATION=f"Token {create_token(make_user(name, role), 'test')}")
    return found


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_hangs_holds_up_no_tick(rollout: Rollout, receiver: Receiver) -> None:
    from ota.tasks import tick

    webhooks.create(receiver.url, [], "li")
    receiver.hold.clear()
    pause(rollout)
    begun = time.monotonic()
    tick()  # begins to tell, and does not wait
    resume(rollout)
    tick()
    assert time.monotonic() - begun < 3
    assert Rollout.objects.get().current_stage == 1
    receiver.hold.set()
    until = time.monotonic() + 10
    while WebhookDelivery.objects.filter(state="waiting").exists() and time.monotonic() < until:
        time.sleep(0.05)
        deliveries.wake()
    assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"delivered"}


def test_a_conversation_kept_going_drop_by_drop_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "DEADLINE_S", 0.4)
    listening = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        with listening.accept()[0] as talking, contextlib.suppress(OSError):
            while True:
                talking.sendall(b"H")
                time.sleep(0.05)

    thread = threading.Thread(target=drip)
    thread.start()
    begun = time.monotonic()
    outcome = outgoing.post(f"http://127.0.0.1:{listening.getsockname()[1]}/", b"{}", {}, private=True)
    assert 0.3 < time.monotonic() - begun < 2
    assert outcome == outgoing.Outcome(None, "No answer within 0.4 s.")
    thread.join()
    listening.close()
