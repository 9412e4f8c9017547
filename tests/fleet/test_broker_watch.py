"""Whose live connections the watcher has ended; what a broker makes of it is tried in tests/brokers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from fleet import broker_watch
from fleet.authority import ensure_services
from fleet.broker_files import Files
from fleet.broker_watch import Watcher
from fleet.kick import Kicker
from fleet.services.certificates import renew, revoke
from tests.fleet.births import csr, days, new_key
from tests.fleet.factories import make_frame

pytestmark = pytest.mark.django_db


class Recorder(Kicker):
    """Keeps what it is asked for."""

    kicked: list[str] = []  # noqa: RUF012  one for the module, emptied by each test

    def kick(self, frame_ids: Sequence[str]) -> None:
        self.kicked.extend(frame_ids)


@pytest.fixture
def watcher(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Watcher:
    settings.FRAMEFLEET_VAR = tmp_path
    ensure_services(tmp_path)
    monkeypatch.setattr(broker_watch, "KICK_AFTER_S", (0.0,))
    Recorder.kicked.clear()
    for name in ("frame-1", "frame-2"):
        make_frame(name)
        renew(name, csr(new_key()))
    return Watcher(Files(crl=tmp_path / "crl.pem"), Recorder("", 0, "", "", ""))


def test_a_revocation_that_was_long_in_committing_ends_the_connection_too(watcher: Watcher) -> None:
    watcher._turn()
    assert Recorder.kicked == []
    # It says when it began, which is before the watcher looked the last time.
    revoke("frame-1", "ops", "stolen", now=timezone.now() - days(0.1))
    watcher._turn()
    assert Recorder.kicked == ["frame-1"]
    watcher._turn()
    assert Recorder.kicked == ["frame-1"]


def test_who_was_revoked_before_the_watcher_began_is_ended(watcher: Watcher) -> None:
    revoke("frame-2", "ops", "stolen")
    watcher._turn()
    assert Recorder.kicked == ["frame-2"]


def test_who_came_and_was_revoked_between_two_looks_is_ended(watcher: Watcher) -> None:
    watcher._turn()
    make_frame("frame-3")
    renew("frame-3", csr(new_key()))
    revoke("frame-3", "ops", "stolen")
    watcher._turn()
    assert Recorder.kicked == ["frame-3"]
