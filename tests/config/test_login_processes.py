"""Logging in at the web server as it is run: over real connections, with forged headers, many at once."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.config.test_processes import environment, web

__all__ = ["environment", "web"]
pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

PASSWORD = "a frame on the wall"


@pytest.fixture
def plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMEFLEET_HTTP", "1")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "")


def log_in(server: str, password: str, **headers: str) -> httpx.Response:
    with httpx.Client(base_url=server) as client:
        client.get("/login/")
        form = {"username": "rosa", "password": password, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        return client.post("/login/", data=form, headers=headers)


def test_login_code_and_logout(plain_http: None, web: str) -> None:
    from fleet.services import second_factor
    from tests.dashboards.test_second_factor import code_of, rested
    from tests.fleet.factories import make_user

    rosa = make_user("rosa", password=PASSWORD)
    second_factor.begin(rosa)
    done = second_factor.confirm(rosa, code_of(rosa))
    assert done is not None
    rested(rosa)
    with httpx.Client(base_url=web) as client:
        client.get("/login/")

        def post(address: str, **form: str) -> httpx.Response:
            return client.post(address, data={**form, "csrfmiddlewaretoken": client.cookies["csrftoken"]})

        assert post("/login/", username="rosa", password=PASSWORD).headers["location"] == "/login/code/"
        assert client.get("/").status_code == 302
        assert client.get("/login/code/").status_code == 200
        assert post("/login/code/", code=done[1][0]).headers["location"] == "/"
        assert client.get("/").status_code == 200
        assert client.get("/admin/").status_code == 200
        assert post("/logout/").status_code == 302
        assert client.get("/").status_code == 302


def test_neither_forged_addresses_nor_many_tries_at_once_pass_the_throttle(plain_http: None, web: str) -> None:
    from django.conf import settings

    from fleet.models import AuditEntry
    from tests.fleet.factories import make_user

    make_user("rosa", password=PASSWORD)
    with ThreadPoolExecutor(4) as pool:
        tries = [
            pool.submit(log_in, web, f"wrong {number}", **{"X-Forwarded-For": f"198.51.100.{number}"})
            for number in range(12)
        ]
        answers = [one.result() for one in tries]
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert log_in(web, PASSWORD, **{"X-Forwarded-For": "203.0.113.9"}).status_code == 429
    checked = AuditEntry.objects.filter(action="login_failed").count()
    assert settings.AXES_FAILURE_LIMIT <= checked <= settings.AXES_FAILURE_LIMIT + 3, "at most what was on its way"
