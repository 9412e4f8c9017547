from urllib.parse import urlencode

import pytest
from django.test import Client
from django.utils import timezone

from fleet.models import Frame, FrameGroup, HealthEvent, Household
from ota.models import Rollout
from tests.dashboards.world import REFUSAL, World, make_frame, make_release, play, report

HOSTILE = "<script>alert('lips')</script>"


def page(client: Client, address: str, language: str = "en") -> str:
    answer = client.get(address, headers={"accept-language": language})
    assert answer.status_code == 200, address
    return answer.content.decode()


def addresses(world: World) -> list[str]:
    rollout = f"/rollouts/{world.rollout.pk}/"
    frame = f"/frames/{world.failed.pk}/"
    planning = ["/rollouts/new/", "/rollouts/freeze/", f"{rollout}explain/?frame={world.failed.pk}", "/segments/"]
    return ["/", "/rollouts/", rollout, f"{rollout}abort/", "/frames/", frame, f"{frame}pin/", *planning]


def test_nobody_reads_without_logging_in(client: Client, world: World) -> None:
    for address in addresses(world):
        answer = client.get(address)
        assert answer.status_code == 302
        assert answer.headers["Location"] == f"/login/?{urlencode({'next': address}, safe='/')}"


def test_logging_in_leads_to_the_overview_and_a_wrong_password_to_a_sentence(client: Client, user: object) -> None:
    wrong = client.post("/login/", {"username": "rosa", "password": "lips"})
    assert 'role="alert"' in wrong.content.decode()
    right = client.post("/login/", {"username": "rosa", "password": "a frame on the wall"})
    assert right.headers["Location"] == "/"
    assert page(client, "/").count("<h1") == 1
    assert client.post("/logout/").headers["Location"] == "/login/"
    assert client.get("/").status_code == 302


@pytest.mark.parametrize(("language", "attribute"), [("en", 'lang="en"'), ("zh-hans", 'lang="zh-Hans"')])
def test_every_page_speaks_both_languages(logged_in: Client, world: World, language: str, attribute: str) -> None:
    for address in addresses(world):
        text = page(logged_in, address, language)
        assert f"<html {attribute}>" in text
        assert ("灰度发布" in text) == (language == "zh-hans")
        assert "style=" not in text, (
            "styles stay in the style sheet, so that a content security policy can forbid others"
        )
        assert "<script>" not in text


def test_the_language_switch_is_remembered(logged_in: Client, world: World) -> None:
    assert "简体中文" in page(logged_in, "/")
    logged_in.post("/i18n/setlang/", {"language": "zh-hans", "next": "/"})
    assert "总览" in page(logged_in, "/")


def test_overview_counts_frames_and_says_which_are_simulated(logged_in: Client, world: World) -> None:
    text = " ".join(page(logged_in, "/").split())
    assert "51 of them simulated" in text
    assert "talking-portrait 1.1" in text
    assert "Stage 2 of 3:" in text
    assert "Simulated people are part of these figures." in text
    assert text.count('<svg class="chart"') == 3


def test_overview_shows_why_frames_refused(logged_in: Client, world: World) -> None:
    text = page(logged_in, "/")
    assert REFUSAL in text
    assert "12 MB are free and 40 MB are needed" in text
    assert "Disk full" in text


def test_a_refusal_that_was_sent_as_an_event_too_is_shown_once(logged_in: Client, world: World) -> None:
    now = timezone.now()
    HealthEvent.objects.create(frame=world.failed, at=now, received_at=now, kind="trial_failed", detail=REFUSAL)
    assert page(logged_in, "/").count(REFUSAL) == 1


def test_rollout_page_says_where_it_stands(logged_in: Client, world: World) -> None:
    opened = world.rollout.stages.get(number=2).opened_at
    assert opened is not None
    play(world.frames[0], 1, opened, opened)
    text = page(logged_in, f"/rollouts/{world.rollout.pk}/")
    offered = world.rollout.deployments.filter(stage__lte=2)
    committed = offered.filter(state="committed").count()
    assert f"Stage 2 of 3: {committed} of {offered.count()} frames have committed; 1 failed." in text
    assert "What people experienced" in text
    assert "simulated people" in text
    assert "not enough evidence yet" in text
    assert text.count(">Stage 2</text>") == 3, "stage openings are marked in every chart"
    assert "Mandarin households complain about lips" in text


def test_rollout_page_shows_lip_errors_beside_the_mean_pose(logged_in: Client, world: World) -> None:
    text = page(logged_in, f"/rollouts/{world.rollout.pk}/")
    for figure in ("0.64 mm", "0.34 mm", "1.24 mm", "limit 0.80 mm"):
        assert figure in text


def test_rollout_page_groups_failures_with_their_sentence(logged_in: Client, world: World) -> None:
    text = page(logged_in, f"/rollouts/{world.rollout.pk}/")
    assert "Trial failed" in text
    assert REFUSAL in text
    assert f'href="/frames/{world.failed.pk}/"' in text


def test_live_part_is_a_fragment_that_costs_nothing_while_nothing_changes(logged_in: Client, world: World) -> None:
    Rollout.objects.update(state="succeeded", ended_at=timezone.now())
    address = f"/rollouts/{world.rollout.pk}/?part=live"
    first = logged_in.get(address)
    assert b"<html" not in first.content
    assert b"csrfmiddlewaretoken" not in first.content
    again = logged_in.get(address, headers={"if-none-match": first.headers["ETag"]})
    assert again.status_code == 304
    assert "private" in first.headers["Cache-Control"]


def test_pages_work_before_anything_happened(logged_in: Client) -> None:
    assert "No rollout has been started yet." in page(logged_in, "/")
    assert "No frame fits." in page(logged_in, "/frames/")
    make_frame("new")
    assert "never reported" in page(logged_in, "/frames/new/")


def test_what_is_not_there_is_said_plainly(logged_in: Client, world: World) -> None:
    for address in ("/frames/nobody/", "/rollouts/999999/", "/nowhere/", f"/rollouts/{world.rollout.pk}/delete/"):
        answer = logged_in.get(address)
        assert answer.status_code == 404
        assert "There is nothing at this address" in answer.content.decode()


def test_frames_are_found_by_group_locale_release_and_state(logged_in: Client, world: World) -> None:
    assert ">52 frames<" in page(logged_in, "/frames/")
    assert ">40 frames<" in page(logged_in, "/frames/?group=mandarin")
    assert ">12 frames<" in page(logged_in, "/frames/?locale=en")
    assert ">1 frame<" in page(logged_in, f"/frames/?q={world.failed.pk}&state=reverted")
    on_fix = Frame.objects.filter(reported__release=world.fix.digest).count()
    assert f">{on_fix} frames<" in page(logged_in, f"/frames/?release={world.fix.digest}")
    assert "No frame fits." in page(logged_in, "/frames/?group=nobody")
    assert logged_in.get("/frames/?q=zh%00-").status_code in (200, 400), "a NUL is in no name, and breaks nothing"
    make_frame("silent")
    assert ">1 frame<" in page(logged_in, "/frames/?release=none")


def test_frames_come_in_pages_that_keep_the_filter(logged_in: Client, world: World) -> None:
    for number in range(20):
        make_frame(f"more-{number}")
    text = page(logged_in, "/frames/?locale=zh")
    assert "Page 1 of 2" in text
    assert "?locale=zh&amp;page=2" in text
    assert "Page 2 of 2" in page(logged_in, "/frames/?locale=zh&page=77")


def test_a_group_that_cannot_be_read_gives_its_sentence(logged_in: Client, world: World) -> None:
    FrameGroup.objects.create(name="broken", query="colour=red")
    assert "A group cannot ask for" in page(logged_in, "/frames/?group=broken")


def test_frame_page_shows_state_refusal_and_history(logged_in: Client, world: World) -> None:
    text = page(logged_in, f"/frames/{world.failed.pk}/")
    assert REFUSAL in text
    assert "Did not make it" in text
    assert "talking-portrait 1.1" in text
    assert "Canary" in text
    assert "0.64" in text
    assert "simulated people" in text


def test_hostile_names_stay_text(logged_in: Client, world: World) -> None:
    release = make_release("e" * 64, "6.6")
    release.name = HOSTILE
    release.save()
    Household.objects.create(id="home")
    FrameGroup.objects.filter(pk=world.group.pk).update(name=HOSTILE)
    world.failed.locale = HOSTILE
    world.failed.save()
    Rollout.objects.update(release=release, reason=HOSTILE, state="paused", created_by=HOSTILE)
    world.rollout.events.update(reason=HOSTILE, kind=HOSTILE, actor=HOSTILE)
    world.rollout.deployments.filter(frame=world.failed).update(detail=HOSTILE, reason=HOSTILE, arm=HOSTILE[:8])
    make_frame("odd")
    report(Frame.objects.get(pk="odd"), "e" * 64, HOSTILE[:16], refusal=HOSTILE)
    quiet = {
        f"/rollouts/{world.rollout.pk}/abort/",
        "/rollouts/freeze/",
        "/segments/",
        f"/frames/{world.failed.pk}/pin/",
    }
    for address in [*addresses(world), "/frames/odd/", f"/frames/?q={HOSTILE}&locale={HOSTILE}"]:
        text = page(logged_in, address)
        assert "<script>" not in text
        assert "&lt;script&gt;" in text or address in quiet
