"""Segments: which households complain more, the group that means them, and how it reads on a terminal."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from fleet.groups import frames_matching
from fleet.models import ContextDay, Frame, FrameDay, FrameGroup, Household
from fleet.services.tokens import create_token
from framectl.commands import segments as command
from ota.selectors_segments import SegmentRow, segments
from protocol.errors import Refused
from tests.fleet.factories import make_user

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
TODAY = NOW.date()
FRAMES = 240
DAYS = 10


def _zh(number: int) -> bool:
    return number % 3 == 0


def _turned(number: int) -> bool:
    return number % 4 == 0


@pytest.fixture
def fleet() -> None:
    """A third speaks Mandarin and complains eight times as often. A quarter has turned faces, which does no harm."""
    Household.objects.bulk_create([Household(pk=f"home-{n}") for n in range(FRAMES)])
    Frame.objects.bulk_create(
        [
            Frame(
                pk=f"frame-{n:03}",
                household_id=f"home-{n}",
                hardware="rk3588",
                locale="zh" if _zh(n) else "en",
                simulated=n % 2 == 0,
            )
            for n in range(FRAMES)
        ]
    )
    days, contexts = [], []
    for n in range(FRAMES):
        for back in range(DAYS):
            day = TODAY - timedelta(days=back)
            often = 5 if _zh(n) else 40
            days.append(
                FrameDay(
                    frame_id=f"frame-{n:03}", day=day, playbacks=5, completed=4, complaints=(n + back) % often == 0
                )
            )
            pose = "turned" if _turned(n) else "frontal"
            contexts.append(
                ContextDay(frame_id=f"frame-{n:03}", day=day, context=f"loudness=normal pose={pose}", playbacks=5)
            )
    FrameDay.objects.bulk_create(days)
    ContextDay.objects.bulk_create(contexts)


def by_name(rows: list[SegmentRow]) -> dict[str, SegmentRow]:
    return {f"{row.key}={row.value}": row for row in rows}


@pytest.mark.usefixtures("fleet")
def test_who_complains_more_stands_first_and_who_does_not_is_not_notable() -> None:
    rows = segments(14, NOW)
    first = rows[0]
    assert (first.key, first.value, first.query, first.notable) == ("locale", "zh", "locale=zh", True)
    assert (first.frames, first.simulated, first.playbacks) == (80, 40, 80 * DAYS * 5)
    assert first.low > 3
    assert first.ratio == pytest.approx(8, rel=0.2)
    turned = by_name(rows)["pose=turned"]
    assert not turned.notable
    assert turned.frames == 60
    both = by_name(rows)["locale & pose=zh & turned"]
    assert (both.query, both.frames) == ("locale=zh,pose=turned", 20)


@pytest.mark.usefixtures("fleet")
def test_every_segments_query_means_its_frames() -> None:
    for row in segments(14, NOW):
        assert row.query is not None
        assert frames_matching(row.query, NOW).count() == row.frames, row


@pytest.mark.usefixtures("fleet")
def test_a_group_is_compared_within_itself_and_its_terms_stay_in_the_query() -> None:
    group = FrameGroup(name="simulated", query="simulated=true,locale=zh,locale=en")
    rows = segments(14, NOW, group)
    assert rows[0].query == "simulated=true,locale=zh"
    assert rows[0].frames == rows[0].simulated == 40


@pytest.mark.usefixtures("fleet")
def test_only_the_days_asked_for_count() -> None:
    (zh,) = (row for row in segments(2, NOW) if (row.key, row.value) == ("locale", "zh"))
    assert zh.playbacks == 80 * 2 * 5
    assert segments(5, NOW + timedelta(days=60)) == []


def test_a_frame_with_an_odd_agent_hides_no_segment_and_gets_no_query() -> None:
    Household.objects.create(pk="home")
    Frame.objects.bulk_create(
        [
            Frame(
                pk=f"frame-{n}",
                household_id="home",
                hardware="rk3588",
                locale="en",
                agent_version="1 & 2, locale=en" if n < 40 else "1.0",
            )
            for n in range(80)
        ]
    )
    FrameDay.objects.bulk_create(
        [
            FrameDay(
                frame_id=f"frame-{n}", day=TODAY - timedelta(days=back), playbacks=9, complaints=(n + back) % 9 == 0
            )
            for n in range(80)
            for back in range(5)
        ]
    )
    found = by_name(segments(14, NOW))
    assert found["agent=1 & 2, locale=en"].query is None
    assert found["agent=1.0"].query == "agent=1.0"


@pytest.mark.parametrize("days", [0, 91])
def test_too_many_days_are_refused(days: int) -> None:
    with pytest.raises(Refused, match="Compare 1 to 90 days"):
        segments(days, NOW)


def client() -> APIClient:
    asking = APIClient()
    asking.credentials(HTTP_AUTHORIZATION=f"Token {create_token(make_user(), 'test')}")
    return asking


def test_the_api_gives_them_and_refuses_what_it_cannot_read() -> None:
    asking = client()
    assert asking.get("/api/v1/segments/").json() == {"days": 14, "results": [], "next": None}
    assert (
        asking.get("/api/v1/segments/?days=week").json()["detail"] == "days is a whole number from 1 to 90, not 'week'."
    )
    assert asking.get("/api/v1/segments/?group=nobody").status_code == 404


def test_a_terminal_shows_what_people_call_it() -> None:
    row: dict[str, Any] = {
        "key": "locale & pose",
        "value": "zh & turned",
        "query": "locale=zh,pose=turned",
        "frames": 20,
        "simulated": 20,
        "playbacks": 900,
        "complaints": 30,
        "ratio": 2.94,
        "low": 1.6,
        "high": None,
        "notable": True,
    }
    lines = command._described({"days": 14, "results": [row, {**row, "notable": False}]}, every=False).splitlines()
    assert len(lines) == 2
    assert " ".join(lines[1].split()) == (
        "Mandarin, pose turned 2.9x 1.6x and more 20 (20 simulated) 900 30 locale=zh,pose=turned"
    )
    none = command._described({"days": 14, "results": [{**row, "notable": False}]}, every=False)
    assert none == "None of 1 segments complains notably more than the rest; --all shows them."
