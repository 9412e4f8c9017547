"""Django's admin opens on every table; what services write cannot be changed there."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client

from fleet.models import Frame
from fleet.services.audit import audit
from fleet.services.ingest import ingest
from fleet.services.reports import record_reported
from fleet.services.tokens import create_token
from tests.fleet.factories import batch, complaint, health, make_frame, playback, power, reported

pytestmark = pytest.mark.django_db

TABLES = [
    model._meta.model_name for model in apps.get_app_config("fleet").get_models() if admin.site.is_registered(model)
]
READ_ONLY = {"reportedstate", "auditentry", "healthevent", "playback", "complaint", "powersample", "frameday"}


@pytest.fixture
def root() -> Client:
    user = User.objects.create_superuser("root")
    make_frame()
    ingest([("frame-1", batch(playback(1), complaint(2), power(3), health(4)))])
    record_reported("frame-1", reported())
    create_token(user, "laptop")
    audit("root", "test", "everything")
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("table", TABLES)
def test_every_table_can_be_looked_at(root: Client, table: str) -> None:
    answer = root.get(f"/admin/fleet/{table}/", {"q": "frame"} if table != "frameday" else {})
    assert answer.status_code == 200
    can_add = root.get(f"/admin/fleet/{table}/add/").status_code == 200
    assert can_add == (table in {"household", "framegroup"})


@pytest.mark.parametrize("table", sorted(READ_ONLY))
def test_what_services_write_cannot_be_changed(root: Client, table: str) -> None:
    model = apps.get_model("fleet", table)
    row = model._default_manager.get() if table != "auditentry" else model._default_manager.first()
    assert row is not None
    assert root.get(f"/admin/fleet/{table}/{row.pk}/change/").status_code == 200
    assert root.post(f"/admin/fleet/{table}/{row.pk}/change/", {}).status_code == 403
    assert root.post(f"/admin/fleet/{table}/{row.pk}/delete/", {"post": "yes"}).status_code == 403


def test_a_frame_leaves_by_retirement_and_not_by_deletion(root: Client) -> None:
    assert root.post("/admin/fleet/frame/frame-1/delete/", {"post": "yes"}).status_code == 403
    root.post("/admin/fleet/frame/frame-1/change/", {"household": "frame-1", "hardware": "rk3588", "locale": "en"})
    assert Frame.objects.get().lifecycle == Frame.Lifecycle.ACTIVE
