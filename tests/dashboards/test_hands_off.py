"""Freezing all rollouts, pinning one frame, and asking why a frame has a release or not."""

from collections.abc import Iterator

import pytest
from django.test import Client
from django.utils import timezone, translation

from fleet.models import AuditEntry, ContextDay
from fleet.permissions import Role
from ota.models import DesiredState, Freeze, Pin
from tests.dashboards.world import World
from tests.fleet.factories import make_user


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with translation.override("en"):
        yield


def text_of(client: Client, address: str, language: str = "en") -> str:
    answer = client.get(address, headers={"accept-language": language})
    assert answer.status_code == 200, address
    return answer.content.decode()


def test_a_freeze_is_said_on_every_page_of_rollouts_until_it_is_lifted(logged_in: Client, world: World) -> None:
    answer = logged_in.post("/rollouts/freeze/", {"reason": "New Year's Eve"})
    assert answer.headers["Location"] == "/rollouts/"
    for address in ("/rollouts/", f"/rollouts/{world.rollout.pk}/", "/rollouts/new/"):
        text = text_of(logged_in, address)
        assert "Rollouts are frozen:" in text
        assert "New Year&#x27;s Eve" in text
        assert 'href="/rollouts/lift/"' in text
    assert "Waits for: Rollouts are frozen" in " ".join(text_of(logged_in, f"/rollouts/{world.rollout.pk}/").split())
    assert logged_in.post("/rollouts/lift/", {"reason": "it is over"}).status_code == 302
    assert "Rollouts are frozen:" not in text_of(logged_in, "/rollouts/")
    assert [entry.action for entry in AuditEntry.objects.filter(subject="rollouts").order_by("number")] == [
        "rollouts.freeze",
        "rollouts.lift",
    ]


def test_a_second_freeze_is_refused_with_a_sentence(logged_in: Client, world: World) -> None:
    logged_in.post("/rollouts/freeze/", {"reason": "first"})
    answer = logged_in.post("/rollouts/freeze/", {"reason": "second"}, headers={"accept-language": "zh-hans"})
    assert answer.status_code == 409
    assert "已处于冻结状态" in answer.content.decode()
    assert Freeze.objects.count() == 1
    assert "somebody has been faster" in text_of(logged_in, "/rollouts/freeze/")


def test_a_freeze_needs_a_reason(logged_in: Client) -> None:
    for reason in ("", " ", "x" * 501, "nul \0"):
        assert logged_in.post("/rollouts/freeze/", {"reason": reason}).status_code == 400
    assert not Freeze.objects.exists()


@pytest.mark.parametrize(
    ("role", "freezes", "lifts"),
    [(Role.VIEWER, False, False), (Role.OPERATOR, True, False), (Role.RELEASER, True, True)],
)
def test_who_may_freeze_and_who_may_lift(client: Client, world: World, role: Role, freezes: bool, lifts: bool) -> None:
    client.force_login(make_user("li", role))
    assert client.get("/rollouts/freeze/").status_code == (200 if freezes else 403)
    assert client.get("/rollouts/lift/").status_code == (200 if lifts else 403)
    frame = f"/frames/{world.frames[-1].pk}/pin/"
    assert client.get(frame).status_code == (200 if freezes else 403)
    assert client.post(frame, {"reason": "hall"}).status_code == (302 if freezes else 403)
    assert Pin.objects.exists() == freezes


def test_a_pinned_frame_says_so_on_its_page(logged_in: Client, world: World) -> None:
    frame = world.frames[-1]
    form = {"reason": "in the hall", "release": world.fix.digest}
    assert logged_in.post(f"/frames/{frame.pk}/pin/", form).headers["Location"] == f"/frames/{frame.pk}/"
    assert DesiredState.objects.get(pk=frame.pk).release_id == world.fix.digest
    text = text_of(logged_in, f"/frames/{frame.pk}/")
    assert "in the hall" in text
    assert "reports something else than it should run" in text
    assert f'href="/frames/{frame.pk}/unpin/"' in text
    assert logged_in.post(f"/frames/{frame.pk}/unpin/", {"reason": "moved"}).status_code == 302
    assert "none: rollouts may have it" in text_of(logged_in, f"/frames/{frame.pk}/")
    again = logged_in.post(f"/frames/{frame.pk}/unpin/", {"reason": "moved"})
    assert again.status_code == 409
    assert "is not pinned" in again.content.decode()


def test_a_pin_to_a_release_that_is_not_there_pins_nothing(logged_in: Client, world: World) -> None:
    answer = logged_in.post(f"/frames/{world.frames[0].pk}/pin/", {"reason": "hall", "release": "x" * 64})
    assert answer.status_code == 404
    assert not Pin.objects.exists()


def test_a_frame_is_explained_in_both_languages(logged_in: Client, world: World) -> None:
    address = f"/rollouts/{world.rollout.pk}/explain/"
    assert "Why did this frame get it, or not?" in text_of(logged_in, address)
    outsider = world.frames[-1]
    assert f"Frame {outsider.pk} is not in the group mandarin." in text_of(logged_in, f"{address}?frame={outsider.pk}")
    told = text_of(logged_in, f"{address}?frame={outsider.pk}", "zh-hans")
    assert f"相框 {outsider.pk} 不在分组“mandarin”中。" in told
    failed = text_of(logged_in, f"{address}?frame={world.failed.pk}")
    assert "Trial failed" in failed
    assert f'href="/frames/{world.failed.pk}/"' in failed


def test_a_frame_that_is_not_there_is_said_plainly(logged_in: Client, world: World) -> None:
    answer = logged_in.get(f"/rollouts/{world.rollout.pk}/explain/?frame=<b>nobody</b>")
    assert answer.status_code == 404
    assert "There is no frame &lt;b&gt;nobody&lt;/b&gt;" in answer.content.decode()


def test_the_frame_page_shows_where_it_hangs_and_its_usual_context(logged_in: Client, world: World) -> None:
    frame = world.frames[0]
    frame.timezone, frame.site = "Asia/Shanghai", "hall-3"
    frame.save()
    today = timezone.now().date()
    for context, playbacks in (
        ("loudness=quiet pose=turned", 6),
        ("loudness=loud pose=turned", 5),
        ("pose=frontal", 2),
    ):
        ContextDay.objects.create(frame=frame, day=today, context=context, playbacks=playbacks)
    text = " ".join(text_of(logged_in, f"/frames/{frame.pk}/").split())
    assert "<dd>hall-3</dd>" in text
    assert "<dd>Asia/Shanghai</dd>" in text
    assert "<dt>Pose</dt><dd>turned</dd>" in text
    assert "<dt>Loudness</dt><dd>quiet</dd>" in text
