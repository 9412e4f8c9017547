import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from ota.models import DesiredState, Rollout
from tests.dashboards.world import World


def revision(world: World) -> str:
    return str(Rollout.objects.get(pk=world.rollout.pk).revision)


def address(world: World, kind: str) -> str:
    return f"/rollouts/{world.rollout.pk}/{kind}/"


def test_actions_say_how_many_frames_they_touch_and_carry_what_was_seen(logged_in: Client, world: World) -> None:
    text = logged_in.get(f"/rollouts/{world.rollout.pk}/").content.decode()
    for kind in ("pause", "advance", "abort", "rollback"):
        assert f'href="{address(world, kind)}?seen_state={revision(world)}"' in text
    assert address(world, "resume") not in text, "a running rollout cannot be resumed"
    waiting = world.rollout.deployments.filter(stage=3).count()
    assert f"{waiting} frames are offered the release" in text


def test_the_confirmation_keeps_the_state_that_was_seen(logged_in: Client, world: World) -> None:
    text = logged_in.get(address(world, "pause"), {"seen_state": "3"}).content.decode()
    assert '<input type="hidden" name="seen_state" value="3">' in text
    assert Rollout.objects.get(pk=world.rollout.pk).state == "running", "looking changes nothing"


def test_pausing_is_done_once_and_remembered_with_name_and_reason(logged_in: Client, world: World) -> None:
    form = {"seen_state": revision(world), "reason": "complaints from Chengdu"}
    answer = logged_in.post(address(world, "pause"), form)
    assert answer.headers["Location"] == f"/rollouts/{world.rollout.pk}/"
    rollout = Rollout.objects.get(pk=world.rollout.pk)
    assert rollout.state == "paused"
    event = rollout.events.last()
    assert event is not None
    assert (event.actor, event.kind, event.reason) == ("rosa", "paused", "complaints from Chengdu")
    text = logged_in.get(answer.headers["Location"]).content.decode()
    assert "Paused in stage 2 of 3" in text
    assert "complaints from Chengdu" in text


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_a_state_that_moved_on_is_shown_again_and_the_reason_kept(
    logged_in: Client, world: World, language: str
) -> None:
    form = {"seen_state": "1", "reason": "what I wrote"}
    answer = logged_in.post(address(world, "advance"), form, headers={"accept-language": language})
    text = answer.content.decode()
    assert answer.status_code == 409
    assert ("has moved on" in text) == (language == "en")
    assert "what I wrote" in text
    assert f'name="seen_state" value="{revision(world)}"' in text
    assert Rollout.objects.get(pk=world.rollout.pk).current_stage == 2


def test_a_double_click_cannot_skip_a_stage(logged_in: Client, world: World) -> None:
    form = {"seen_state": revision(world), "reason": "good enough"}
    assert logged_in.post(address(world, "advance"), form).status_code == 302
    assert logged_in.post(address(world, "advance"), form).status_code == 409
    assert Rollout.objects.get(pk=world.rollout.pk).current_stage == 3


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "nul \0"])
def test_a_command_needs_a_reason(logged_in: Client, world: World, reason: str) -> None:
    answer = logged_in.post(address(world, "abort"), {"seen_state": revision(world), "reason": reason})
    assert answer.status_code == 400
    assert 'role="alert"' in answer.content.decode()
    assert Rollout.objects.get(pk=world.rollout.pk).state == "running"


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("en", "The rollout is aborted, so Pause is not possible; possible now: Roll back."),
        ("zh-hans", "灰度发布的状态为“已中止”，无法执行“暂停”；现在可以：回滚。"),
    ],
)
def test_a_command_that_the_state_does_not_allow_is_refused_with_a_sentence(
    logged_in: Client, world: World, language: str, sentence: str
) -> None:
    Rollout.objects.update(state="aborted")
    form = {"seen_state": revision(world), "reason": "why not"}
    answer = logged_in.post(address(world, "pause"), form, headers={"accept-language": language})
    assert answer.status_code == 409
    assert sentence in answer.content.decode()


@pytest.mark.parametrize("kind", ["abort", "rollback"])
def test_a_command_touches_as_many_frames_as_it_said(logged_in: Client, world: World, kind: str) -> None:
    text = logged_in.get(address(world, kind)).content.decode()
    said = re.search(r"<strong>[^<]*?(\d+) frames", text)
    assert said is not None
    before = dict(DesiredState.objects.values_list("frame_id", "version"))
    assert logged_in.post(address(world, kind), {"seen_state": revision(world), "reason": "lips"}).status_code == 302
    after = dict(DesiredState.objects.values_list("frame_id", "version"))
    assert int(said[1]) == sum(after[frame] != before[frame] for frame in after)
    assert int(said[1]) > 0


def test_commands_are_refused_without_the_token_against_forged_forms(user: object, world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="rosa"))
    answer = client.post(address(world, "abort"), {"seen_state": revision(world), "reason": "forged"})
    assert answer.status_code == 403
    assert Rollout.objects.get(pk=world.rollout.pk).state == "running"


def test_nobody_commands_without_logging_in(client: Client, world: World) -> None:
    answer = client.post(address(world, "abort"), {"seen_state": revision(world), "reason": "lips"})
    assert answer.headers["Location"].startswith("/login/")
    assert Rollout.objects.get(pk=world.rollout.pk).state == "running"
