"""Web server and Celery as they are run: started, asked, stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from django.db import connection

from standalone.processes import HOST, free_port, port_answers
from tests.bridge.process import ROOT, eventually, named

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def environment(transactional_db: None, database_url: str, tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": named(database_url, str(connection.settings_dict["NAME"])),
        "FRAMEFLEET_VAR": str(tmp_path),
    }


@pytest.fixture
def web(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--host", HOST, "--port", str(port)]
    with (tmp_path / "web.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=log, stderr=log)
    assert eventually(lambda: port_answers(port)), (tmp_path / "web.log").read_text()
    yield f"http://{HOST}:{port}"
    process.terminate()
    process.wait(10)


def test_the_web_server_asks_who_is_there_and_serves_its_own_files(web: str) -> None:
    refused = httpx.get(f"{web}/api/v1/frames/")
    assert (refused.status_code, refused.json()) == (
        401,
        {"detail": "Send an API token: Authorization: Token <token> (manage.py create_api_token makes one)."},
    )
    page = httpx.get(web, follow_redirects=True)
    assert page.status_code == 200
    assert "login" in page.url.path
    assert httpx.get(f"{web}/static/admin/css/base.css").headers["content-type"].startswith("text/css")


def test_celery_wakes_the_engine_every_second_and_stops_in_time(environment: dict[str, str], tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "celery", "-A", "config.celery:app", "worker", "--beat", "--concurrency", "1"]
    log_path = tmp_path / "celery.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen([*argv, "--loglevel", "INFO"], cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        assert eventually(lambda: log_path.read_text().count("succeeded") >= 2), log_path.read_text()
        assert "ota.tasks.tick" in log_path.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
    assert (tmp_path / "celery" / "messages").is_dir()
