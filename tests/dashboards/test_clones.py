"""A frame that is two says so on its page and in the list."""

from datetime import UTC, datetime

import pytest
from django.test import Client

from fleet.models import FrameSessions
from tests.fleet.factories import make_frame

pytestmark = pytest.mark.django_db

WORDS = "Two frames with one identity"


def test_two_frames_with_one_identity_are_shown(admin_client: Client) -> None:
    make_frame("twin")
    make_frame("single")
    FrameSessions.objects.create(frame_id="twin", cloned_at=datetime.now(UTC))
    assert WORDS in admin_client.get("/frames/twin/").content.decode()
    assert WORDS not in admin_client.get("/frames/single/").content.decode()
    assert admin_client.get("/frames/").content.decode().count(WORDS) == 1


def test_it_is_said_in_chinese_too(admin_client: Client) -> None:
    make_frame("twin")
    FrameSessions.objects.create(frame_id="twin", cloned_at=datetime.now(UTC))
    page = admin_client.get("/frames/twin/", HTTP_ACCEPT_LANGUAGE="zh-hans").content.decode()
    assert "两台相框使用同一个身份" in page
    assert "请吊销它的证书" in page
