"""Segments in the console: who complains most, and aiming a rollout at them."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from fleet.models import Frame, FrameDay, FrameGroup
from fleet.permissions import Role
from tests.dashboards.world import BASE, make_frame
from tests.fleet.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def households(db: None) -> None:
    """60 Mandarin frames that complain on every third day, 120 others that hardly do."""
    today = timezone.now().date()
    frames = [make_frame(f"zh-{n:03}") for n in range(60)]
    frames += [make_frame(f"en-{n:03}", locale="en", simulated=False) for n in range(120)]
    FrameDay.objects.bulk_create(
        FrameDay(
            frame=frame,
            day=today - timedelta(days=day),
            release=BASE,
            playbacks=6,
            completed=5,
            complaints=1 if (number + day) % (3 if frame.locale == "zh" else 30) == 0 else 0,
        )
        for number, frame in enumerate(frames)
        for day in range(10)
    )


def test_the_segment_that_complains_most_comes_first_with_a_link_to_aim_at_it(
    logged_in: Client, households: None
) -> None:
    text = logged_in.get("/segments/").content.decode()
    first = text[text.index("<tbody>") : text.index("</tr>", text.index("<tbody>"))]
    assert "Locale: zh" in first
    assert "Complains more" in first
    assert "simulated" in first
    assert 'href="/rollouts/new/?target=locale%3Dzh"' in first


def test_the_same_in_chinese(logged_in: Client, households: None) -> None:
    text = logged_in.get("/segments/?days=7", headers={"accept-language": "zh-hans"}).content.decode()
    assert "投诉更多" in text
    assert "针对此细分人群发布" in text


def test_whoever_may_not_start_a_rollout_sees_the_query_instead(client: Client, households: None) -> None:
    client.force_login(make_user("li", Role.VIEWER))
    text = client.get("/segments/").content.decode()
    assert "/rollouts/new/" not in text
    assert "<code>locale=zh</code>" in text
    assert "This needs the role releaser" in text


@pytest.mark.parametrize("days", ["0", "9999", "x", "9" * 40])
def test_impossible_days_break_nothing(logged_in: Client, days: str) -> None:
    assert logged_in.get(f"/segments/?days={days}").status_code == 200


def test_segments_of_one_group_alone(logged_in: Client, households: None) -> None:
    FrameGroup.objects.create(name="mandarin", query="locale=zh")
    Frame.objects.filter(pk__startswith="zh-00").update(site="hall")
    text = logged_in.get("/segments/?group=mandarin").content.decode()
    assert "Locale: en" not in text
    assert "There is no FrameGroup of this name." in logged_in.get("/segments/?group=nobody").content.decode()
