"""The audit log as the console shows it."""

import pytest
from django.test import Client

from dashboards.views.audit import PER_PAGE
from fleet.services.audit import audit, newest_head

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_newest_entries_come_first_with_the_chains_head(admin_client: Client) -> None:
    for number in range(PER_PAGE + 5):
        audit("li", "group.create", f"group <{number}>", {"reason": "为什么"})
    head = newest_head()
    assert head is not None
    text = admin_client.get("/audit/").content.decode()
    assert head.digest in text
    assert f"group &lt;{PER_PAGE + 4}&gt;" in text
    assert "为什么" in text
    older = admin_client.get("/audit/", {"below": str(head.number - PER_PAGE + 1)}).content.decode()
    assert "group &lt;0&gt;" in older
    assert f"group &lt;{PER_PAGE + 4}&gt;" not in older


def test_an_empty_log_and_an_odd_page_are_pages_too(admin_client: Client) -> None:
    assert admin_client.get("/audit/", {"below": "-1\u0663"}).status_code == 200
