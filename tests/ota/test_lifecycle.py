"""Frames that leave and frames that are replaced: who may still speak, what is meant for them, what is kept."""

import base64
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from fleet.groups import frames_matching
from fleet.models import AuditEntry, Frame, FrameCertificate, FrameGroup, Playback, ReportedState
from fleet.permissions import role_named
from fleet.services.certificates import good_certificates, renew
from fleet.services.claims import make_claims, redeem
from fleet.services.ingest import ingest
from fleet.services.reports import record_reported
from fleet.services.tokens import create_token
from ota import keys, publication
from ota.models import Deployment, DesiredState, Release
from ota.services import director, lifecycle, membership, rollouts
from protocol.errors import Refused
from protocol.topics import frame_topic
from tests.fleet.births import awaited, claim_request, csr, new_key
from tests.fleet.factories import batch, make_frame, make_user, playback, reported
from tests.ota.world import offered, report

pytestmark = pytest.mark.django_db

DESIRED = frame_topic("frame-1", "desired")


@pytest.fixture
def frame() -> Frame:
    keys.make_missing()
    frame = make_frame("frame-1")
    renew("frame-1", csr(new_key()))
    record_reported("frame-1", reported("frame-1"))
    ingest([("frame-1", batch(playback(1)))])
    director.set_desired(["frame-1"], None)
    publication.mark_published(one.token for one in publication.pending(10))
    return frame


def test_a_retired_frame_is_let_in_no_more_and_its_history_stays(frame: Frame) -> None:
    lifecycle.retire("frame-1", "rosa", "the household moved away")
    assert not good_certificates().exists()
    assert not frames_matching("").exists()
    assert Playback.objects.count() == 1
    assert ReportedState.objects.count() == 1
    assert {entry.action for entry in AuditEntry.objects.filter(subject="frame-1", actor="rosa")} == {
        "retire_frame",
        "revoke_certificates",
    }
    with pytest.raises(Refused, match="retired already"):
        lifecycle.retire("frame-1", "rosa", "again")


def test_the_broker_forgets_what_a_retired_frame_should_run(frame: Frame) -> None:
    lifecycle.retire("frame-1", "rosa", "gone")
    (sent,) = publication.pending(10)
    assert (sent.topic, sent.payload) == (DESIRED, b"")
    publication.mark_published([sent.token])
    assert publication.pending(10) == []
    assert director.set_desired(["frame-1"], None) == {}
    assert director.refresh(timezone.now()) == 0
    assert publication.pending(10) == []


def test_other_hardware_takes_over_the_id_and_what_it_should_run(frame: Frame) -> None:
    before = DesiredState.objects.get().version
    claim = lifecycle.replace("frame-1", "rosa", "its screen broke")
    assert not good_certificates().exists()
    assert FrameCertificate.objects.get().revoked_reason == "its screen broke"
    assert not frames_matching("").exists()  # nobody is there to install anything
    assert not ReportedState.objects.exists()
    redeem(claim_request(claim.token, new_key()))
    assert good_certificates().count() == 1
    assert frames_matching("").get().pk == "frame-1"
    assert DesiredState.objects.get().version == before
    assert Playback.objects.count() == 1
    assert record_reported("frame-1", reported("frame-1", journal_id="2" * 32))


def test_a_retired_id_comes_back_by_replacement_alone(frame: Frame) -> None:
    lifecycle.retire("frame-1", "rosa", "gone")
    claim = lifecycle.replace("frame-1", "rosa", "sold again")
    assert publication.pending(10) == []
    redeem(claim_request(claim.token, new_key()))
    assert director.set_desired(["frame-1"], None) == {"frame-1": 1}
    (sent,) = publication.pending(10)
    assert (sent.topic, sent.payload != b"") == (DESIRED, True)


def test_no_rollout_waits_for_a_retired_frame_and_none_offers_it_anything(
    frames: Callable[..., list[str]],
    release_1_0: Release,
    release_1_1: Release,
    zh: FrameGroup,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(membership, "draw_salt", lambda group, shares: "b" * 32)  # always the same first half
    ids = frames(12, "zh", "zh")
    director.set_desired(ids, release_1_0)
    rollout = rollouts.start(release_1_1, zh, [0.5, 1.0], "li", "lips")
    rollouts.tick(rollout.pk)
    (flying, *others) = offered(rollout)
    lifecycle.retire(flying.frame_id, "rosa", "broken")
    flying.refresh_from_db()
    assert (flying.state, flying.detail) == ("dark", lifecycle.RETIRED)
    waiting = Deployment.objects.filter(rollout=rollout, state="pending")[0].frame_id
    lifecycle.retire(waiting, "rosa", "broken too")
    for row in others:
        report(row.frame_id, "committed", rollout.release_id, desired_version=row.desired_version)
    for _ in range(3):  # the first stage completes, the second opens
        rollouts.tick(rollout.pk)
    assert waiting not in {row.frame_id for row in offered(rollout)}
    assert len(offered(rollout)) == 12 - 1
    assert not DesiredState.objects.filter(frame__in=[flying.frame_id, waiting]).exists()
    rollout.refresh_from_db()
    rollouts.command(rollout.pk, "rollback", str(rollout.revision), "li", "because")
    assert not DesiredState.objects.filter(frame__in=[flying.frame_id, waiting]).exists()


class Api:
    """REST as somebody with this role."""

    def __init__(self, role: str = "operator") -> None:
        token = create_token(make_user(role, role_named(role)), "test")
        self._client = Client(headers={"authorization": f"Token {token}"})

    def post(self, path: str, data: object, expect: int, kind: str = "application/json") -> Any:
        answer = self._client.post(f"/api/v1/{path}", data, content_type=kind)
        assert answer.status_code == expect, answer.content
        return answer.json()

    def get(self, path: str) -> Any:
        return self._client.get(f"/api/v1/{path}").json()


def test_an_operator_imports_replaces_revokes_and_retires_over_rest(settings: Any) -> None:
    settings.FRAMEFLEET_BIRTH_URL = "https://birth.example:8444"
    keys.make_missing()
    api = Api()
    table = "frame_id,household,locale,hardware\nwall-1,home,zh,rk3588\n"
    (claim,) = api.post("claims/", table.encode(), 201, "text/csv; charset=utf-8")["claims"]
    assert claim["url"] == f"https://birth.example:8444/claim/{claim['token']}"
    found = api.get("frames/wall-1/")
    assert (found["lifecycle"], found["identity"]["certificates"]) == ("awaited", [])
    assert found["identity"]["claim"]["used_at"] is None
    redeem(claim_request(claim["token"], new_key()))
    (held,) = api.get("frames/wall-1/")["identity"]["certificates"]
    assert held["state"] == "good"
    assert api.post("frames/wall-1/claim/", {}, 409)["detail"].startswith("wall-1 holds a good certificate")
    assert api.post("frames/wall-1/revoke/", {"reason": " "}, 400)["detail"].startswith("Write why")
    assert api.post("frames/wall-1/revoke/", {"reason": "stolen", "serial": "0" * 16}, 409)
    assert api.post("frames/wall-1/revoke/", {"reason": "stolen", "serial": held["serial"]}, 200)["revoked"] == 1
    assert api.get("frames/wall-1/")["identity"]["certificates"][0]["state"] == "revoked"
    assert api.post("frames/wall-1/replace/", {"reason": "stolen", "days": 7}, 200)["token"]
    assert api.post("frames/wall-1/retire/", {"reason": "gave up"}, 200)["lifecycle"] == "retired"
    assert [frame["id"] for frame in api.get("frames/")["results"]] == []
    assert [frame["id"] for frame in api.get("frames/?lifecycle=retired")["results"]] == ["wall-1"]
    for path, body in (("frames/nobody/retire/", {"reason": "x"}), ("frames/wall-1/dance/", {})):
        assert api.post(path, body, 404)["detail"].endswith(".") or path.endswith("dance/")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"\xff\xfe\0\0", "names the columns|not in UTF-8"),
        (b"frame_id,household,locale,hardware\nwall-1,h\xff,zh,rk3588\n", "not in UTF-8"),
        (base64.b64encode(b"x" * 10_000), "characters"),
    ],
)
def test_an_import_that_cannot_be_read_is_refused_with_one_sentence(body: bytes, sentence: str) -> None:
    assert re.search(sentence, Api().post("claims/", body, 400, "text/csv")["detail"])


def test_a_viewer_changes_nothing() -> None:
    awaited()
    api = Api("viewer")
    for path in ("frames/frame-1/retire/", "frames/frame-1/claim/"):
        assert "needs" in api.post(path, {"reason": "x"}, 403)["detail"]
    api.post("claims/", b"", 403, "text/csv")
    assert list(make_claims(["frame-1"], "rosa"))
