"""The second factor, with real codes."""

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from fleet.models import AuditEntry
from fleet.models.access import RecoveryCode
from fleet.permissions import Role
from fleet.services import second_factor
from tests.dashboards.test_login import PASSWORD, log_in
from tests.fleet.factories import make_user

CODE = re.compile(r"<code>([A-Z2-7]{4}(?:-[A-Z2-7]{4}){3})</code>")


def code_of(user: User, steps: int = 0) -> str:
    """What the user's app shows now, or some steps later."""
    device = TOTPDevice.objects.get(user=user)
    totp = TOTP(device.bin_key, device.step, device.t0, device.digits)
    totp.time = time.time() + 30 * steps
    return f"{totp.token():06}"


def rested(user: User) -> None:
    """As if the app had been quiet for long: no wait after wrong codes, and no code used."""
    long_ago = timezone.now() - timedelta(days=1)
    TOTPDevice.objects.filter(user=user).update(last_t=-1, throttling_failure_timestamp=long_ago)


@pytest.fixture
def codes(logged_in: Client, user: User) -> list[str]:
    """Recovery codes of rosa, who has added an app."""
    page = logged_in.get("/account/two-factor/").content.decode()
    secret = re.search(r"<code[^>]*>([A-Z2-7 ]+)</code>", page)
    assert secret is not None
    answer = logged_in.post("/account/two-factor/", {"code": code_of(user)})
    assert answer.status_code == 200
    found = CODE.findall(answer.content.decode())
    rested(user)
    return found


def enter(client: Client, code: str) -> Any:
    log_in(client)
    return client.post("/login/code/", {"code": code})


def test_adding_an_app_gives_ten_codes_that_are_kept_as_hashes(logged_in: Client, user: User, codes: list[str]) -> None:
    assert len(set(codes)) == second_factor.RECOVERY_CODES == RecoveryCode.objects.count()
    assert not any(code.replace("-", "") in str(list(RecoveryCode.objects.values())) for code in codes)
    assert logged_in.get("/").status_code == 200, "the session that added it goes on"
    assert AuditEntry.objects.filter(action="add_second_factor", subject="rosa").exists()


def test_the_qr_code_is_the_secret_and_is_shown_only_while_it_is_added(logged_in: Client, user: User) -> None:
    assert logged_in.get("/account/two-factor/qr.svg").status_code == 404
    logged_in.get("/account/two-factor/")
    picture = logged_in.get("/account/two-factor/qr.svg")
    assert picture.headers["Content-Type"] == "image/svg+xml"
    assert "no-store" in picture.headers["Cache-Control"]
    assert b"style=" not in picture.content
    assert (
        logged_in.post("/account/two-factor/", {"code": "000000" if code_of(user) != "000000" else "1"}).status_code
        == 400
    )
    assert second_factor.app_of(user) is None
    logged_in.post("/account/two-factor/", {"code": code_of(user)})
    assert Client().get("/account/two-factor/qr.svg").status_code == 302


def test_a_password_alone_opens_nothing(client: Client, user: User, codes: list[str]) -> None:
    answer = log_in(Client())
    assert answer.headers["Location"] == "/login/code/"
    half = Client()
    log_in(half)
    for address in ("/", "/account/", "/metrics", "/rollouts/"):
        assert half.get(address, REMOTE_ADDR="192.0.2.1").status_code in (302, 401)
    assert half.get("/login/code/").status_code == 200


def test_the_app_s_code_opens_once(user: User, codes: list[str]) -> None:
    first, second = Client(), Client()
    code = code_of(user)
    log_in(first)
    assert first.post("/login/code/", {"code": f" {code[:3]} {code[3:]} "}).headers["Location"] == "/"
    assert first.get("/").status_code == 200
    assert enter(second, code).status_code == 200, "the same code again"
    assert second.get("/").status_code == 302
    entry = AuditEntry.objects.filter(action="login").latest("at")
    assert entry.detail["second_factor"] == "code"


def test_a_recovery_code_opens_once(user: User, codes: list[str]) -> None:
    first, second = Client(), Client()
    assert enter(first, codes[0].lower()).status_code == 302
    assert first.get("/").status_code == 200
    assert enter(second, codes[0]).status_code == 200
    assert AuditEntry.objects.get(action="use_recovery_code").detail == {"left": 9}


def test_wrong_codes_wait_longer_and_longer_and_then_lock(user: User, codes: list[str]) -> None:
    client = Client()
    log_in(client)
    wrong = "000000" if code_of(user) != "000000" else "000001"
    assert client.post("/login/code/", {"code": wrong}).status_code == 200
    assert client.post("/login/code/", {"code": code_of(user)}).status_code == 200, "too soon after a wrong one"
    for _ in range(settings.AXES_FAILURE_LIMIT):
        last = client.post("/login/code/", {"code": wrong})
    assert last.status_code in (302, 429)
    rested(user)
    assert log_in(Client()).status_code == 429, "not even the right password helps now"
    assert AuditEntry.objects.filter(action="login_failed", detail__wrong="code").exists()


def test_a_half_login_lasts_minutes_and_ends_with_a_new_password(
    user: User, codes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, other = Client(), Client()
    log_in(client)
    log_in(other)
    later = time.time() + 301
    with monkeypatch.context() as patch:
        patch.setattr("dashboards.views.login.time.time", lambda: later)
        assert client.post("/login/code/", {"code": codes[0]}).headers["Location"] == "/login/"
    user.set_password("another frame entirely")
    user.save()
    assert other.post("/login/code/", {"code": codes[1]}).headers["Location"] == "/login/"
    assert other.get("/").status_code == 302


def test_the_page_that_was_wanted_is_reached_after_both_steps(user: User, codes: list[str]) -> None:
    client = Client()
    client.post("/login/", {"username": "rosa", "password": PASSWORD, "next": "/frames/"})
    assert client.post("/login/code/", {"code": codes[0]}).headers["Location"] == "/frames/"


def test_sessions_from_before_end_when_an_app_is_added(user: User, client: Client) -> None:
    elsewhere = Client()
    elsewhere.force_login(user)
    client.force_login(user)
    client.get("/account/two-factor/")
    client.post("/account/two-factor/", {"code": code_of(user)})
    assert elsewhere.get("/").headers["Location"] == "/login/"
    assert client.get("/").status_code == 200


def test_taking_it_away_needs_a_code(logged_in: Client, user: User, codes: list[str]) -> None:
    assert logged_in.post("/account/two-factor/remove/", {"code": "AAAA-AAAA-AAAA-AAAA"}).status_code == 400
    fresh = CODE.findall(logged_in.post("/account/two-factor/codes/", {"code": codes[0]}).content.decode())
    assert len(fresh) == 10
    assert second_factor.check(user, codes[1]) is None, "the old ones stopped working"
    assert logged_in.post("/account/two-factor/remove/", {"code": fresh[0]}).status_code == 302
    assert second_factor.app_of(user) is None
    assert not RecoveryCode.objects.exists()
    assert AuditEntry.objects.filter(action="remove_second_factor", subject="rosa", actor="rosa").exists()


def test_a_role_that_must_have_one_opens_nothing_but_the_page_to_add_it(settings: Any, user: User) -> None:
    settings.FRAMEFLEET_REQUIRE_TOTP = frozenset({"admin"})
    boss, viewer = make_user("boss", Role.ADMIN, PASSWORD), make_user("li", Role.VIEWER, PASSWORD)
    client = Client()
    log_in(client, name="boss")
    for address in ("/", "/frames/", "/account/", "/admin/", "/metrics"):
        assert client.get(address).headers["Location"] == "/account/two-factor/", address
    page = client.get("/account/two-factor/", headers={"accept-language": "zh-hans"})
    assert "您的角色要求两步验证" in page.content.decode()
    client.post("/account/two-factor/", {"code": code_of(boss)})
    assert client.get("/admin/").status_code == 200
    other = Client()
    other.force_login(viewer)
    assert other.get("/").status_code == 200


def test_an_admin_takes_it_away_from_whoever_lost_it(user: User, codes: list[str]) -> None:
    client = Client()
    client.force_login(make_user("boss", Role.ADMIN))
    form = {"action": "remove_second_factor", "_selected_action": [user.pk]}
    assert client.post("/admin/auth/user/", form).status_code == 302
    assert second_factor.app_of(user) is None
    assert AuditEntry.objects.filter(action="remove_second_factor", actor="boss").exists()
    assert client.get("/admin/otp_totp/totpdevice/").status_code == 404, "nobody looks at secrets"
