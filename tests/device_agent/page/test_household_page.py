"""What the household reads: how an update fares, and why the CPU draws; and a page that hangs is known."""

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest

from device_agent.page import server as local_page
from device_agent.page.html import STATES, household_page
from device_agent.page.media import Media
from device_agent.page.server import LocalPage
from device_agent.player import Player
from device_agent.renderer import Renderer
from device_agent.storage.store import FileStore
from protocol.messages import InstallState
from tests.browser import chromium
from tests.device_agent.live import until

PROBATION = {"playbacks": 1, "playbacks_needed": 3, "healthy_hours": 2.5, "healthy_hours_needed": 24.0}


def said(**status: Any) -> str:
    return household_page({"frame_id": "frame-1", "release_name": "portrait 1.1", **status}, [], Media((), ()))


def test_probation_is_told_in_both_languages() -> None:
    text = said(state="trial", probation=PROBATION)
    assert "an update plays on probation · 更新处于试用期" in text
    assert "1/3 films or 2.5/24 hours · 播放 1/3 次，或正常运行 2.5/24 小时" in text
    assert "on probation" not in said(state="trial", probation=None)


def test_a_fault_of_the_npu_and_a_failure_are_visible_and_harmless_to_the_page() -> None:
    fault = "The NPU failed in <motion>. The CPU runs it instead."
    text = said(state="committed", runtime={"setting": "auto", "uses": "CPU", "why": fault})
    assert "Runs on · 运行于</dt><dd>CPU: The NPU failed in &lt;motion&gt;. The CPU runs it instead." in text
    assert "Runs on" not in said(state="committed", runtime={"setting": "auto", "uses": "CPU", "why": None})
    text = said(state="reverted", failure={"reason": "trial_failed", "detail": "It took 9 ms & more."})
    assert "the last update went back · 上次更新已回退" in text
    assert "It took 9 ms &amp; more." in text


def test_every_state_has_words_in_both_languages() -> None:
    assert set(STATES) == {*get_args(InstallState), "probation"}
    assert all(english and chinese for english, chinese in STATES.values())


def test_a_page_whose_thread_hangs_is_not_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_page, "TURN_S", 0.02)
    monkeypatch.setattr(local_page, "HANGS_S", 0.5)
    quiet = threading.Lock()
    player = Player(tmp_path, FileStore(tmp_path), lambda: None, lambda event: None, quiet, Renderer())
    page = LocalPage(player, dict, [tmp_path])
    go_on = threading.Event()
    monkeypatch.setattr(page._server, "verify_request", lambda *_: go_on.wait(20))
    try:
        until(page.alive)
        with socket.create_connection(("127.0.0.1", page.port)):
            until(lambda: not page.alive())
        go_on.set()
        until(page.alive)
    finally:
        go_on.set()
        page.close()
        player.close()


def test_too_many_connections_are_closed_and_the_page_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_page, "TURN_S", 0.02)
    monkeypatch.setattr(local_page, "MAX_CONNECTIONS", 3)
    player = Player(tmp_path, FileStore(tmp_path), lambda: None, lambda event: None, threading.Lock(), Renderer())
    page = LocalPage(player, dict, [tmp_path])

    def connect() -> socket.socket:
        return socket.create_connection(("127.0.0.1", page.port), timeout=10)

    def answers() -> bool:
        with connect() as asking, suppress(OSError):
            asking.sendall(f"GET /status HTTP/1.0\r\nHost: 127.0.0.1:{page.port}\r\n\r\n".encode())
            return asking.recv(100).startswith(b"HTTP/1.0 200")
        return False

    try:
        idle = [connect() for _ in range(3)]
        with connect() as one_too_many:
            assert one_too_many.recv(1) == b""
        for connection in idle:
            connection.close()
        until(answers)
    finally:
        page.close()
        player.close()


@pytest.mark.slow
def test_the_page_s_policy_stops_everything_but_its_own_style(tmp_path: Path) -> None:
    player = Player(tmp_path, FileStore(tmp_path), lambda: None, lambda event: None, threading.Lock(), Renderer())
    page = LocalPage(player, lambda: {"frame_id": "frame-1"}, [tmp_path])
    try:
        with chromium(tmp_path) as browser:
            shown = browser.open(f"http://127.0.0.1:{page.port}/")
            assert "frame-1" in shown.html
            assert shown.violations == []
            assert browser.evaluate("getComputedStyle(document.body).maxWidth") != "none", "its style is applied"
            browser.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: '1'}))")
            assert len(browser.look().violations) == 1
    finally:
        page.close()
        player.close()
