"""No page of the console or the administration needs an inline script or style: a real browser says so."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.browser import Browser, chromium

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(running: Browser) -> Iterator[Browser]:
    """Nobody is logged in; no page is left that asks a server that has gone."""
    running.call("Network.clearBrowserCookies")
    yield running
    running.open("about:blank")


@pytest.fixture
def session(client: Client) -> dict[str, str]:
    from fleet.permissions import Role
    from tests.fleet.factories import make_user

    client.force_login(make_user("boss", Role.ADMIN))
    return {"sessionid": client.cookies["sessionid"].value}


def test_the_browser_tells_what_a_policy_stops(browser: Browser, tmp_path: Path) -> None:
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
    (tmp_path / "page.html").write_text(f"{policy}<p style='color:red'>x<script>1</script>")
    found = browser.open(f"file://{tmp_path}/page.html")
    assert len(found.violations) == 2, "or the tests below could not fail"


def test_every_page_keeps_its_own_policy(
    live_server: Any, session: dict[str, str], world: Any, browser: Browser, settings: Any
) -> None:
    from fleet.models import AuditEntry

    settings.SESSION_COOKIE_SECURE = False
    rollout, frame = f"/rollouts/{world.rollout.pk}/", f"/frames/{world.failed.pk}/"
    console = ["/", "/rollouts/", rollout, f"{rollout}abort/", "/frames/", frame, "/account/", "/account/password/"]
    console += ["/rollouts/new/", "/rollouts/freeze/", f"{rollout}explain/", "/segments/", f"{frame}pin/"]
    console += ["/account/two-factor/", "/nowhere/"]
    admin = ["/admin/", "/admin/auth/user/", "/admin/auth/user/add/", f"/admin/fleet/frame/{world.failed.pk}/change/"]
    admin += ["/admin/fleet/frame/", "/admin/fleet/framegroup/add/", "/admin/fleet/auditentry/", "/admin/ota/release/"]
    assert AuditEntry.objects.exists()
    for address in [*console, *admin]:
        page = browser.open(live_server.url + address, cookies=session)
        assert page.violations == [], address
        assert [error for error in page.errors if "404" not in error] == [], address
        assert "framefleet" in page.html, address
        assert 'name="password"' not in page.html, "logged in"
    refreshes(browser, live_server.url + rollout)
    shows_the_qr_code(browser, live_server.url)


def refreshes(browser: Browser, url: str) -> None:
    """console.js exchanges the live part: the policy lets it fetch."""
    browser.open(url)
    fetched = "performance.getEntriesByType('resource').filter(one => one.name.includes('part=live')).length"
    deadline = time.monotonic() + 10
    while not browser.evaluate(fetched):
        assert time.monotonic() < deadline, "the page asks every two seconds"
        browser.look(0.1)
    page = browser.look()
    assert page.violations == page.errors == []


def shows_the_qr_code(browser: Browser, url: str) -> None:
    browser.open(f"{url}/account/two-factor/")
    assert browser.evaluate("document.querySelector('img.qr').naturalWidth") > 100


def test_both_login_pages_and_a_refusal_keep_it_too(
    live_server: Any, user: Any, browser: Browser, settings: Any
) -> None:
    from tests.dashboards.test_login import PASSWORD

    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = False
    submit = "document.querySelector('form.stack').submit()"
    assert browser.open(f"{live_server.url}/login/").violations == []
    browser.evaluate(f"id_username.value='rosa'; id_password.value='wrong'; {submit}")
    browser.wait_for("Page.loadEventFired")
    page = browser.look()
    assert 'role="alert"' in page.html
    assert page.violations == []
    browser.evaluate(f"id_username.value='rosa'; id_password.value='{PASSWORD}'; {submit}")
    browser.wait_for("Page.loadEventFired")
    page = browser.look()
    assert "rosa" in page.html
    assert page.violations == []
