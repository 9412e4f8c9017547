"""Logging in: passwords, the throttle, sessions, cookies."""

from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.hashers import identify_hasher, make_password
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db.models import F
from django.test import Client, RequestFactory

from fleet.models import AuditEntry
from fleet.throttle import FACTOR, client_address

PASSWORD = "a frame on the wall"
LIMIT = settings.AXES_FAILURE_LIMIT


def log_in(client: Client, password: str = PASSWORD, name: str = "rosa", **kind: Any) -> Any:
    return client.post("/login/", {"username": name, "password": password}, **kind)


@pytest.fixture
def argon2(user: User, settings: Any) -> None:
    """The passwords of production."""
    settings.PASSWORD_HASHERS = settings.PASSWORD_HASHERS[1:]
    user.set_password(PASSWORD)
    user.save()


def test_an_old_hash_becomes_argon2_at_the_next_login(client: Client, user: User, argon2: None) -> None:
    user.password = make_password(PASSWORD, hasher="pbkdf2_sha256")
    user.save()
    log_in(client)
    user.refresh_from_db()
    assert identify_hasher(user.password).algorithm == "argon2"
    assert client.get("/").status_code == 200


def test_a_name_that_nobody_has_costs_as_much_as_one_that_somebody_has(
    client: Client, argon2: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.contrib.auth.hashers import Argon2PasswordHasher

    hashed: list[str] = []
    for name in ("encode", "verify"):
        real = getattr(Argon2PasswordHasher, name)

        def counted(*given: Any, name: str = name, real: Any = real) -> Any:
            hashed.append(name)
            return real(*given)

        monkeypatch.setattr(Argon2PasswordHasher, name, counted)
    known = log_in(client, "wrong")
    unknown = log_in(client, "wrong", "nobody")
    assert hashed == ["verify", "encode"]
    assert known.status_code == unknown.status_code == 200
    sentences = [
        answer.content.decode().partition('role="alert"')[2].partition("</p>")[0] for answer in (known, unknown)
    ]
    assert sentences[0] == sentences[1] != ""


@pytest.mark.parametrize("password", ["short", "password1234", "rosaparksrosa"])
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(ValidationError):
        validate_password(password, User(username="rosaparks"))


def test_too_many_wrong_passwords_lock_the_name_from_this_address_alone(client: Client, user: User) -> None:
    for number in range(LIMIT):
        answer = log_in(client, f"wrong {number}")
    assert answer.status_code == 429
    assert "wait 15 minutes" in answer.content.decode()
    assert answer.headers["Retry-After"] == "900"
    locked = log_in(client, headers={"accept-language": "zh-hans"})
    assert locked.status_code == 429, "not even the right password opens"
    assert "请等待 15 分钟" in locked.content.decode()
    elsewhere = Client(REMOTE_ADDR="192.0.2.7")
    assert log_in(elsewhere).status_code == 302
    assert AuditEntry.objects.filter(action="login_failed", subject="rosa").count() == LIMIT
    assert AuditEntry.objects.filter(action="login_locked", subject="rosa").count() == 1


def test_the_lock_opens_by_itself_and_tries_while_locked_do_not_prolong_it(client: Client, user: User) -> None:
    for number in range(LIMIT + 3):
        log_in(client, f"wrong {number}")
    assert AccessAttempt.objects.get().failures_since_start == LIMIT
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - settings.AXES_COOLOFF_TIME - timedelta(seconds=1))
    assert log_in(client).status_code == 302
    assert not AccessAttempt.objects.exists(), "what has cooled off is not kept"


def test_one_address_cannot_try_many_names(client: Client, user: User) -> None:
    for number in range(LIMIT * FACTOR):
        answer = log_in(client, "wrong", f"name-{number}")
    assert answer.status_code == 429
    assert log_in(client).status_code == 429


@pytest.mark.parametrize("name", ["皇" * 400, "n" * 100_000, "\0", "n\0n", "", " "])
def test_a_name_that_nobody_can_have_is_a_wrong_one_and_counts(client: Client, user: User, name: str) -> None:
    answer = log_in(client, "wrong", name)
    assert answer.status_code == 200
    assert 'name="password"' in answer.content.decode()
    if len(name) > 2 and "\0" not in name:
        assert AccessAttempt.objects.get().failures_since_start == 1


def test_a_login_forgives_its_own_name_only(client: Client, user: User) -> None:
    for _ in range(LIMIT - 1):
        log_in(client, "wrong")
        log_in(client, "wrong", "nobody")
    assert log_in(client).status_code == 302
    assert set(AccessAttempt.objects.values_list("username", flat=True)) == {"nobody"}


def test_a_password_typed_as_a_name_is_not_kept_in_the_audit_log(client: Client, user: User) -> None:
    log_in(client, "x", PASSWORD)
    log_in(client, "wrong password")
    kept = str(list(AuditEntry.objects.values())) + str(list(AccessAttempt.objects.values("get_data", "post_data")))
    assert PASSWORD not in kept
    assert "wrong password" not in kept


@pytest.mark.parametrize(
    ("remote", "forwarded", "proxies", "address"),
    [
        ("192.0.2.1", "198.51.100.9", 0, "192.0.2.1"),
        ("192.0.2.1", "203.0.113.5, 198.51.100.9", 1, "198.51.100.9"),
        ("192.0.2.1", "203.0.113.5, 198.51.100.9", 2, "203.0.113.5"),
        ("192.0.2.1", "", 1, None),
        ("192.0.2.1", "nonsense", 1, None),
        ("2001:db8:1:2:3:4:5:6", "", 0, "2001:db8:1:2::"),
        ("::ffff:192.0.2.1", "", 0, "192.0.2.1"),
    ],
)
def test_where_a_request_comes_from(
    settings: Any, remote: str, forwarded: str, proxies: int, address: str | None
) -> None:
    settings.FRAMEFLEET_PROXIES = proxies
    request = RequestFactory().get("/", REMOTE_ADDR=remote, HTTP_X_FORWARDED_FOR=forwarded)
    assert client_address(request) == address


def test_cookies_stay_on_https_out_of_scripts_and_on_this_site(client: Client, user: User) -> None:
    client.get("/login/")
    session = log_in(client).cookies["sessionid"]
    for cookie in (session, client.cookies["csrftoken"]):
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Lax")
    assert session["max-age"] == 12 * 60 * 60


def test_a_session_that_was_planted_is_worth_nothing(client: Client, user: User) -> None:
    client.get("/login/")
    session = client.session
    session["planted"] = True
    session.save()
    planted = session.session_key
    log_in(client)
    assert client.session.session_key != planted
    attacker = Client()
    attacker.cookies["sessionid"] = str(planted)
    assert attacker.get("/").status_code == 302


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_nobody_is_led_elsewhere_after_the_login(client: Client, user: User, target: str) -> None:
    answer = client.post("/login/", {"username": "rosa", "password": PASSWORD, "next": target})
    assert answer.headers["Location"] == "/"


def test_logging_out_takes_a_form_and_ends_the_session(logged_in: Client) -> None:
    assert logged_in.get("/logout/").status_code == 405
    kept = logged_in.cookies["sessionid"].value
    logged_in.post("/logout/")
    again = Client()
    again.cookies["sessionid"] = kept
    assert again.get("/").status_code == 302
    assert Client(enforce_csrf_checks=True).post("/logout/").status_code == 403


def test_a_new_password_ends_other_sessions(client: Client, user: User) -> None:
    other = Client()
    other.force_login(user)
    log_in(client)
    form = {
        "old_password": PASSWORD,
        "new_password1": "another frame entirely",
        "new_password2": "another frame entirely",
    }
    assert client.post("/account/password/", form).headers["Location"] == "/account/"
    assert client.get("/").status_code == 200
    assert other.get("/").status_code == 302
    assert AuditEntry.objects.filter(action="change_password").exists()


def test_the_administration_has_no_login_of_its_own(client: Client, user: User) -> None:
    answer = client.get("/admin/login/?next=/admin/fleet/frame/")
    assert answer.headers["Location"] == "/login/?next=/admin/fleet/frame/"
    client.post("/admin/login/", {"username": "rosa", "password": PASSWORD})
    assert client.get("/").status_code == 302


def test_headers_that_keep_other_sites_out(client: Client, db: None) -> None:
    headers = client.get("/login/", secure=True).headers
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "microphone=()" in headers["Permissions-Policy"]
    assert headers["Strict-Transport-Security"] == "max-age=31536000"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    for odd in ("/nowhere/", "/api/v1/frames/", "/?x=%00", "/static/dashboards/console.js"):
        assert "script-src 'self'" in client.get(odd).headers["Content-Security-Policy"]


def test_sessions_that_ended_are_forgotten(client: Client, user: User) -> None:
    from django.contrib.sessions.models import Session
    from django.utils import timezone

    from fleet.tasks import clear_sessions

    log_in(client)
    Client().force_login(user)
    Session.objects.filter(pk=client.session.session_key).update(expire_date=timezone.now() - timedelta(seconds=1))
    clear_sessions()
    assert Session.objects.count() == 1
