"""Where frames hang: their time zone and their site, by service, REST and CSV."""

import pytest
from rest_framework.test import APIClient

from fleet.models import AuditEntry, Frame
from fleet.permissions import Role
from fleet.services.imports import import_frames
from fleet.services.places import is_timezone, set_place
from fleet.services.tokens import create_token
from protocol.errors import Refused
from tests.fleet.factories import make_frame, make_user


def test_time_zones_are_those_of_the_iana_database() -> None:
    good = ("UTC", "Asia/Shanghai", "America/Argentina/Ushuaia", "Etc/GMT+5")
    bad = (
        "",
        "utc+8",
        "Mars/Olympus",
        "Europe",
        "../../etc/passwd",
        "/etc/localtime",
        "zone.tab",
        "Asia/Shang\0hai",
        "A" * 65,
    )
    assert all(map(is_timezone, good))
    assert not any(map(is_timezone, bad))


@pytest.mark.django_db
def test_frames_hang_in_utc_with_an_uplink_of_their_own_until_somebody_says_otherwise() -> None:
    for name in ("a", "b", "c"):
        make_frame(name)
    assert set(Frame.objects.values_list("timezone", "site")) == {("UTC", "")}
    assert set_place(["a", "b"], "rosa", timezone="Asia/Shanghai") == 2
    assert set_place(["b"], "rosa", site="tower-1") == 1
    rows = Frame.objects.order_by("id").values_list("id", "timezone", "site")
    assert list(rows) == [("a", "Asia/Shanghai", ""), ("b", "Asia/Shanghai", "tower-1"), ("c", "UTC", "")]
    set_place(["b"], "rosa", site="")
    assert Frame.objects.get(pk="b").site == ""
    assert [entry.subject for entry in AuditEntry.objects.filter(action="set_place").order_by("pk")] == [
        "2 frames",
        "b",
        "b",
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("ids", "timezone", "site", "sentence"),
    [
        (["a"], "Mars/Olympus", None, "'Mars/Olympus' is no time zone: use an IANA name such as Asia/Shanghai."),
        (["a"], None, "tower 1", "'tower 1' cannot name a site: use 1 to 64 of A-Z, a-z, 0-9, '-' and '_'."),
        (["a"], None, None, "Say what to change: a time zone, a site or both."),
        (["a", "nobody"], "UTC", None, "There is no frame 'nobody': nothing was changed."),
        ([], "UTC", None, "Name 1 to 10000 frames at once, not 0."),
        (["a\0"], "UTC", None, "There is no frame 'a\ufffd': nothing was changed."),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    ids: list[str], timezone: str | None, site: str | None, sentence: str
) -> None:
    Frame.objects.filter(pk=make_frame("a").pk).update(timezone="Europe/Paris", site="shop")
    with pytest.raises(Refused) as refused:
        set_place(ids, "rosa", timezone=timezone, site=site)
    assert refused.value.detail == sentence
    assert list(Frame.objects.values_list("timezone", "site")) == [("Europe/Paris", "shop")]


@pytest.mark.django_db
def test_the_api_places_frames_and_shows_where_they_hang() -> None:
    make_frame("a")
    asking = APIClient()
    asking.credentials(
        HTTP_AUTHORIZATION=f"Token {create_token(make_user(role=Role.OPERATOR), 'test', scope='operate')}"
    )
    body = {"frames": ["a"], "timezone": "Asia/Shanghai", "site": "tower-1"}
    assert asking.put("/api/v1/places/", body, format="json").json() == {"frames": 1}
    shown = asking.get("/api/v1/frames/a/").json()
    assert (shown["timezone"], shown["site"]) == ("Asia/Shanghai", "tower-1")
    bad: list[object] = [[], {"frames": "a"}, {"frames": ["a"], "timezone": 8}, {"frames": ["a"], "timezone": "GMT+8"}]
    for wrong in bad:
        assert asking.put("/api/v1/places/", wrong, format="json").status_code == 400
    reading = APIClient()
    reading.credentials(HTTP_AUTHORIZATION=f"Token {create_token(make_user('eve', Role.VIEWER), 'test')}")
    assert reading.put("/api/v1/places/", body, format="json").status_code == 403


@pytest.mark.django_db
def test_a_csv_may_say_where_frames_hang() -> None:
    heading = "frame_id,household,locale,hardware,timezone,site\n"
    import_frames([heading, "a,home-1,zh,rk3588,Asia/Shanghai,tower-1\n", "b,home-2,en,rk3588,,\n"], "rosa")
    import_frames(["frame_id,site,household,locale,hardware\n", "c,tower-1,home-3,zh,rk3588\n"], "rosa")
    rows = Frame.objects.order_by("id").values_list("id", "timezone", "site")
    assert list(rows) == [("a", "Asia/Shanghai", "tower-1"), ("b", "UTC", ""), ("c", "UTC", "tower-1")]
    with pytest.raises(Refused) as refused:
        import_frames([heading, "d,home-1,zh,rk3588,Beijing,tower-1\n", "e,home-1,zh,rk3588,UTC,a b\n"], "rosa")
    assert "line 2: the timezone 'Beijing' is not an IANA name such as Asia/Shanghai" in refused.value.detail
    assert "line 3: the site 'a b' is not 1 to 64 of" in refused.value.detail
    with pytest.raises(Refused, match="names the columns"):
        import_frames(["frame_id,household,locale,hardware,site,site\n"], "rosa")
