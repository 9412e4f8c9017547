"""The audit log is a chain that nobody changes unnoticed."""

import json
from pathlib import Path
from threading import Thread

import msgspec
import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.test import override_settings
from rest_framework.test import APIClient

from fleet.models import AuditEntry
from fleet.services.audit import audit, heads_file, newest_head, publish_head
from fleet.services.tokens import create_token
from protocol.audit import AuditRecord, BrokenChain, verify

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def admin_api() -> APIClient:
    user = User.objects.create_superuser("head", password="a-long-password-of-ops")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {create_token(user, 'test')}")
    return client


@pytest.fixture(autouse=True)
def heads(tmp_path: Path) -> object:
    with override_settings(FRAMEFLEET_AUDIT_HEADS=str(tmp_path / "mount" / "heads.jsonl")):
        yield


def records(client: APIClient) -> list[AuditRecord]:
    found: list[AuditRecord] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = client.get("/api/v1/audit/", {"limit": "3", "cursor": cursor}).json()
        found += msgspec.convert(answer["results"], list[AuditRecord])
        cursor = answer["next"]
    return found


def write(count: int) -> None:
    for number in range(count):
        audit("林", "group.create", f"组 {number}", {"b": 1.5, "a": [None, "\u2028 and , 3:x"], "z": {"n": 10**20}})


def test_what_the_database_seals_is_what_a_reader_computes(admin_api: APIClient) -> None:
    write(7)
    head = verify(records(admin_api), {})
    assert head is not None
    assert head.number == AuditEntry.objects.count() >= 7
    assert head == newest_head()


def test_entries_of_many_transactions_at_once_form_one_line(admin_api: APIClient) -> None:
    def some() -> None:
        try:
            for _ in range(5):
                with transaction.atomic():
                    write(2)
        finally:
            connection.close()

    threads = [Thread(target=some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    head = verify(records(admin_api), {})
    assert head is not None
    assert head.number >= 40


def test_a_transaction_that_is_undone_leaves_no_gap(admin_api: APIClient) -> None:
    write(1)
    with transaction.atomic():
        write(1)
        transaction.set_rollback(True)
    write(1)
    assert verify(records(admin_api), {}) is not None


@pytest.mark.parametrize("change", [{"actor": "somebody else"}, {"digest": "0" * 64}, {"number": None}])
def test_no_entry_can_be_changed(change: dict[str, object]) -> None:
    write(1)
    with pytest.raises(IntegrityError, match="append-only"):
        AuditEntry.objects.update(**change)


def test_no_entry_can_be_deleted() -> None:
    write(1)
    with pytest.raises(IntegrityError, match="append-only"):
        AuditEntry.objects.all().delete()


def owner(sql: str) -> None:
    """What somebody can do who owns the database."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE fleet_auditentry DISABLE TRIGGER audit_keep")
        cursor.execute(sql)
        cursor.execute("ALTER TABLE fleet_auditentry ENABLE TRIGGER audit_keep")


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE fleet_auditentry SET actor = 'x' WHERE number = 3", "Entry 3 .* was changed"),
        ("DELETE FROM fleet_auditentry WHERE number = 3", "Entry 3 .* is missing"),
        ("UPDATE fleet_auditentry SET at = at + interval '1 microsecond' WHERE number = 3", "Entry 3 .* was changed"),
    ],
)
def test_the_databases_owner_is_found_out_by_the_chain(admin_api: APIClient, sql: str, says: str) -> None:
    write(6)
    owner(sql)
    with pytest.raises(BrokenChain, match=says):
        verify(records(admin_api), {})


def test_a_log_that_was_written_anew_is_found_out_by_a_published_head(admin_api: APIClient) -> None:
    write(6)
    assert publish_head()
    published = {line["number"]: line["digest"] for line in map(json.loads, heads_file().read_text().splitlines())}
    count = AuditEntry.objects.count()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE fleet_auditentry")
    write(2)
    with pytest.raises(BrokenChain, match="entries are missing"):
        verify(records(admin_api), published)
    write(count)
    with pytest.raises(BrokenChain, match="replaced"):
        verify(records(admin_api), published)


def test_a_head_is_published_once_and_after_a_torn_line(admin_api: APIClient) -> None:
    write(1)
    assert publish_head()
    assert not publish_head()
    with heads_file().open("ab") as file:
        file.write(b'{"number": 1')
    write(1)
    assert publish_head()
    lines = heads_file().read_bytes().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[-1])["digest"] == newest_head().digest  # type: ignore[union-attr]
