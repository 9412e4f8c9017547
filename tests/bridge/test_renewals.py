"""Which frames are told to renew their certificate, and how seldom that is looked up."""

import pytest

from bridge import renewals
from bridge.renewals import EVERY_S, Renewals


def test_hellos_are_looked_up_always_and_others_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    asked: list[list[str]] = []

    def look(ids: list[str]) -> set[str]:
        asked.append(ids)
        return {"old"} & set(ids)

    monkeypatch.setattr(renewals, "should_renew", look)
    known = Renewals(lambda: now)
    assert known.told({"old"}, {"new"}) == {"old"}
    assert known.told(set(), {"old", "new"}) == set()
    now = EVERY_S
    assert known.told(set(), {"old", "new"}) == {"old"}
    assert asked == [["new", "old"], ["new", "old"]]


def test_a_ca_that_cannot_be_read_costs_the_telemetry_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_ids: list[str]) -> set[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(renewals, "should_renew", fail)
    assert Renewals().told({"frame-1"}, set()) == set()
