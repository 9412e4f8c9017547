"""A frame's identity on the console: who may speak in its name, and what people do about it."""

import re

import pytest
from django.test import Client
from django.utils import timezone

from dashboards.frame_commands import KINDS, choices
from fleet.models import AuditEntry, Frame, FrameCertificate
from fleet.permissions import Role
from fleet.selectors import identity
from fleet.services.certificates import good_certificates, renew
from fleet.services.claims import make_claims, redeem
from fleet.services.imports import import_frames
from ota import keys
from ota.services import lifecycle
from tests.fleet.births import claim_request, csr, days, new_key
from tests.fleet.factories import make_frame, make_user

pytestmark = pytest.mark.django_db

ADDRESS = "/frames/frame-1/"


@pytest.fixture
def frame() -> Frame:
    keys.make_missing()
    frame = make_frame()
    renew("frame-1", csr(new_key()))
    return frame


def _seen(client: Client, kind: str) -> str:
    answer = client.get(f"{ADDRESS}{kind}/")
    assert answer.status_code == 200
    found = re.search(r'name="seen_state" value="([^"]*)"', answer.content.decode())
    assert found is not None
    return found[1]


def _do(client: Client, kind: str, reason: str = "the household moved", seen: str | None = None) -> tuple[int, str]:
    seen = _seen(client, kind) if seen is None else seen
    answer = client.post(f"{ADDRESS}{kind}/", {"reason": reason, "seen_state": seen})
    return answer.status_code, answer.content.decode()


def _kinds(frame_id: str = "frame-1") -> list[str]:
    frame = Frame.objects.get(pk=frame_id)
    return [one.kind for one in choices(frame, identity(frame))]


def test_the_page_shows_certificates_and_what_can_be_done(logged_in: Client, frame: Frame) -> None:
    renew("frame-1", csr(new_key()), now=timezone.now())
    text = logged_in.get(ADDRESS).content.decode()
    for row in FrameCertificate.objects.all():
        assert row.serial_hex in text
    assert "Good for some days beside its successor" in text
    for kind in ("replace", "revoke", "retire"):
        assert f'href="{ADDRESS}{kind}/"' in text
    assert f'href="{ADDRESS}claim/"' not in text
    assert "证书" in logged_in.get(ADDRESS, headers={"accept-language": "zh-hans"}).content.decode()


def test_what_is_offered_follows_the_frames_state(frame: Frame) -> None:
    assert _kinds() == ["replace", "revoke", "retire"]
    claim = lifecycle.replace("frame-1", "rosa", "broken")
    assert _kinds() == ["claim", "retire"]
    redeem(claim_request(claim.token, new_key()))
    assert _kinds() == ["replace", "revoke", "retire"]
    lifecycle.retire("frame-1", "rosa", "gone")
    assert _kinds() == ["replace"]


def test_replacing_shows_the_claim_once(logged_in: Client, frame: Frame) -> None:
    status, text = _do(logged_in, "replace")
    assert status == 200
    token = re.search(r"<code>([a-z2-7 ]{31})</code>", text)
    assert token is not None
    assert 'class="qr"' in text
    assert "style=" not in text
    assert not good_certificates().exists()
    born = redeem(claim_request(token[1].replace(" ", ""), new_key()))
    assert born.certificate.frame_id == "frame-1"
    assert AuditEntry.objects.get(action="replace_frame").detail["reason"] == "the household moved"
    assert token[1] not in logged_in.get(ADDRESS).content.decode()


def test_a_claim_is_kept_nowhere_on_its_way(logged_in: Client, frame: Frame) -> None:
    answer = logged_in.post(f"{ADDRESS}replace/", {"reason": "broken", "seen_state": _seen(logged_in, "replace")})
    assert "no-store" in answer.headers["Cache-Control"]


def test_a_double_click_replaces_nothing_twice(logged_in: Client, frame: Frame) -> None:
    seen = _seen(logged_in, "replace")
    assert _do(logged_in, "replace", seen=seen)[0] == 200
    claimed = Frame.objects.get().claim.digest
    status, text = _do(logged_in, "replace", seen=seen)
    assert status == 409
    assert "has changed since you looked" in text
    assert Frame.objects.get().claim.digest == claimed


def test_a_stolen_frames_certificates_are_revoked(logged_in: Client, frame: Frame) -> None:
    assert _do(logged_in, "revoke", "stolen")[0] == 302
    text = logged_in.get(ADDRESS).content.decode()
    assert "Revoked" in text
    assert "stolen" in text
    assert not good_certificates().exists()
    assert _kinds() == ["claim", "retire"]


def test_a_retired_frame_leaves_the_list_and_can_be_found_there(logged_in: Client, frame: Frame) -> None:
    assert _do(logged_in, "retire")[0] == 302
    assert ADDRESS not in logged_in.get("/frames/").content.decode()
    assert ADDRESS in logged_in.get("/frames/?lifecycle=retired").content.decode()
    assert "Retired" in logged_in.get(ADDRESS).content.decode()


def test_frames_that_are_not_born_yet_can_be_listed(logged_in: Client, frame: Frame) -> None:
    import_frames(["frame_id,household,locale,hardware\n", "wall-1,home,zh,rk3588\n"], "rosa")
    text = logged_in.get("/frames/?lifecycle=awaited").content.decode()
    assert "/frames/wall-1/" in text
    assert ADDRESS not in text
    assert "not used yet, good until" in logged_in.get("/frames/wall-1/").content.decode()


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "a\0b"])
def test_nothing_happens_without_a_reason(logged_in: Client, frame: Frame, reason: str) -> None:
    for kind in ("replace", "revoke", "retire"):
        status, text = _do(logged_in, kind, reason)
        assert status == 400
        assert 'role="alert"' in text
    assert good_certificates().count() == 1


def test_who_may_only_read_sees_why_the_buttons_are_not_theirs(client: Client, frame: Frame) -> None:
    client.force_login(make_user("vera", Role.VIEWER))
    text = client.get(ADDRESS).content.decode()
    assert "disabled" in text
    assert f'href="{ADDRESS}retire/"' not in text
    for kind in KINDS:
        assert client.post(f"{ADDRESS}{kind}/", {"reason": "x"}).status_code == 403
    assert good_certificates().count() == 1


def test_only_forms_of_the_page_itself_are_taken(frame: Frame) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("rosa", Role.OPERATOR))
    assert client.post(f"{ADDRESS}retire/", {"reason": "x"}).status_code == 403
    assert client.get(f"{ADDRESS}dance/").status_code == 404
    assert client.get("/frames/nobody/retire/").status_code == 404


def test_expired_and_ended_certificates_are_called_so(logged_in: Client, frame: Frame) -> None:
    FrameCertificate.objects.update(not_after=timezone.now() - days(1), good_until=timezone.now() - days(1))
    assert "Expired" in logged_in.get(ADDRESS).content.decode()
    FrameCertificate.objects.update(not_after=timezone.now() + days(1))
    assert "Ended" in logged_in.get(ADDRESS).content.decode()
    list(make_claims(["frame-1"], "rosa"))
