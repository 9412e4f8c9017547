"""``framectl audit verify`` against the real web server and database."""

from pathlib import Path
from typing import Any

import pytest

from framectl.__main__ import main

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def witness(live_server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any) -> Path:
    """A server that ``framectl`` knows as an admin, and where this machine keeps the heads it has seen."""
    from django.contrib.auth.models import User

    from fleet.services.tokens import create_token

    settings.FRAMEFLEET_AUDIT_HEADS = str(tmp_path / "heads.jsonl")
    monkeypatch.setenv("FRAMEFLEET_SERVER", live_server.url)
    user = User.objects.create_superuser("head")
    monkeypatch.setenv("FRAMEFLEET_TOKEN", create_token(user, "tests"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "framefleet" / "audit-heads.jsonl"


def write(count: int) -> None:
    from fleet.services.audit import audit

    for number in range(count):
        audit("li", "group.create", f"group {number}")


def as_owner(sql: str) -> None:
    """What somebody can do who owns the database."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE fleet_auditentry DISABLE TRIGGER audit_keep")
        cursor.execute(sql)
        cursor.execute("ALTER TABLE fleet_auditentry ENABLE TRIGGER audit_keep")


def test_an_untouched_log_is_proven_and_its_head_remembered(
    witness: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from fleet.services.audit import publish_head

    write(5)
    publish_head()
    assert main(["audit", "verify", "--heads", str(tmp_path / "heads.jsonl")]) == 0
    assert "one unbroken chain" in capsys.readouterr().out
    assert len(witness.read_text().splitlines()) == 1
    write(3)
    assert main(["audit", "verify"]) == 0
    assert len(witness.read_text().splitlines()) == 2


def test_a_changed_entry_is_named(witness: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(5)
    as_owner("UPDATE fleet_auditentry SET subject = 'nothing' WHERE number = 2")
    assert main(["audit", "verify"]) == 1
    assert "Entry 2 of the audit log was changed" in capsys.readouterr().err


def test_a_log_that_lost_its_end_is_found_out_by_the_machine_that_saw_it(
    witness: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(5)
    assert main(["audit", "verify"]) == 0
    as_owner("DELETE FROM fleet_auditentry WHERE number >= 3")
    assert main(["audit", "verify"]) == 1
    assert "entries are missing" in capsys.readouterr().err


def test_a_missing_file_of_heads_is_one_sentence(witness: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(1)
    assert main(["audit", "verify", "--heads", "nowhere.jsonl"]) == 1
    assert "nowhere.jsonl is not there" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\x00\xff\n\x93", b'{"number": 1}\n'])
def test_a_file_without_any_head_proves_nothing(
    witness: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    write(1)
    path = tmp_path / "others.jsonl"
    path.write_bytes(content)
    assert main(["audit", "verify", "--heads", str(path)]) == 1
    assert "holds no head that can be read" in capsys.readouterr().err
