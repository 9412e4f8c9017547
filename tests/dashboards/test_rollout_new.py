"""Planning a rollout in the console: the form, what it refuses, drafts and starts."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone, translation

from dashboards.plan_form import Problem, Typed, plan_of
from dashboards.preview_page import WARNINGS, previewed
from fleet.models import FrameDay, FrameGroup
from fleet.permissions import Role
from ota.domain.analysis.preview import Shortage
from ota.domain.plan import GateKind, Window, of_shares
from ota.models import Rollout
from ota.selectors_forecast import SHORT_HISTORY, Forecast, HarmHours, StageHours
from ota.selectors_preview import preview
from ota.services import pins
from ota.services.facts import plan_of as kept_plan
from tests.dashboards.test_causes import chinese
from tests.dashboards.world import World
from tests.fleet.factories import make_user

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with translation.override("en"):
        yield


def typed(**given: str) -> Typed:
    return Typed.of({"policy": "plain", "shares": "5, 25, 100"} | given, defaults=False)


def form(world: World, **given: str) -> dict[str, str]:
    FrameGroup.objects.get_or_create(name="english", query="locale=en")
    usual = {"release": world.fix.digest, "group": "english", "policy": "plain", "shares": "50, 100", "reason": "lips"}
    return usual | given


def test_plain_stages_are_read_in_per_cent_with_any_comma() -> None:
    plan = plan_of(typed(shares="5%，25、 100", gate="manual", holdback="10"), NOW)
    assert [stage.share for stage in plan.stages] == [0.05, 0.25, 1.0]
    assert [stage.gate for stage in plan.stages] == [GateKind.MANUAL, GateKind.MANUAL, GateKind.COMMITTED]
    assert plan.holdback == 0.1


def test_a_policy_gives_stages_by_evidence_and_its_own_holdback() -> None:
    plan = plan_of(typed(policy="small-fleet"), NOW)
    assert [stage.share for stage in plan.stages] == [0.1, 0.25, 1.0]
    assert plan.stages[0].gate is GateKind.EVIDENCE
    assert plan.holdback == 0.05
    assert plan_of(typed(policy="small-fleet", holdback="12.5"), NOW).holdback == 0.125


def test_hours_days_and_limits_are_read_as_people_write_them() -> None:
    plan = plan_of(
        typed(
            start_at="2026-12-01 08:00",
            end_at="2027-01-07T00:00+08:00",
            windows="02:00-05:00, 23:00 – 01:30",
            blackout="2026-12-24..2026-12-26, 2027-01-01",
            per_minute="60",
            priority="-3",
            supersedes="7, 9",
            benefit_metric="complaint",
            benefit_at_least="0,8",
            pause_on_harm="on",
        ),
        NOW,
    )
    assert plan.start_at == datetime(2026, 12, 1, 8, tzinfo=UTC), "a time without a zone is UTC, as on every page"
    assert plan.end_at == datetime(2027, 1, 6, 16, tzinfo=UTC)
    assert plan.windows == [Window(opens=120, closes=300), Window(opens=1380, closes=90)]
    assert [(one.first.day, one.last.day) for one in plan.blackout] == [(24, 26), (1, 1)]
    assert (plan.per_minute, plan.priority, plan.supersedes, plan.guardrails) == (60, -3, [7, 9], False)
    assert plan.benefit is not None
    assert plan.benefit.at_least == 0.8


@pytest.mark.parametrize(
    ("given", "name", "said"),
    [
        ({"shares": "five"}, "shares", "in per cent"),
        ({"shares": ""}, "", "1 to 10 stages"),
        ({"shares": "25, 5, 100"}, "", "Stage 2 (5 %) is not larger than stage 1 (25 %)"),
        ({"shares": "nan, 100"}, "", "above 0 and at most 1"),
        ({"holdback": "x"}, "holdback", "a number"),
        ({"holdback": "70"}, "", "holdback"),
        ({"start_at": "tomorrow"}, "start_at", "2026-12-01 08:00"),
        ({"start_at": "2026-11-01 08:00"}, "", "is in the past"),
        ({"end_at": "2026-11-01 08:00"}, "", "not after the start"),
        ({"windows": "2-5"}, "windows", "02:00-05:00"),
        ({"windows": "02:00-02:00"}, "", "never open"),
        ({"blackout": "Christmas"}, "blackout", "2026-12-24"),
        ({"blackout": "2026-12-26..2026-12-24"}, "", "swap its dates"),
        ({"per_minute": "-1"}, "per_minute", "not below 0"),
        ({"per_minute": "0"}, "", "cannot be read"),
        ({"per_minute": "1e3"}, "per_minute", "whole number"),
        ({"priority": "101"}, "", "cannot be read"),
        ({"supersedes": "the old one"}, "supersedes", "such as 7, 9"),
        ({"benefit_metric": "completion"}, "benefit_at_least", "how much better"),
        ({"benefit_metric": "complaint", "benefit_at_least": "3"}, "", "above 0 and at most 1"),
        ({"timeout_h": "0"}, "", "above 0 hours"),
        ({"timeout_h": "1e999"}, "", "at most"),
        ({"holdback": "1" * 400}, "", "holdback"),
        ({"supersedes": "9" * 30}, "", "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused_with_one_sentence_and_its_field(
    given: dict[str, str], name: str, said: str
) -> None:
    with pytest.raises(Problem) as problem:
        plan_of(typed(**given), NOW)
    assert problem.value.name == name
    assert said in str(problem.value)


def test_starting_leads_to_the_rollouts_page(logged_in: Client, world: World) -> None:
    answer = logged_in.post("/rollouts/new/", form(world, start="1", per_minute="30"))
    rollout = Rollout.objects.get(group__name="english")
    assert answer.headers["Location"] == f"/rollouts/{rollout.pk}/"
    assert rollout.state == "running"
    assert kept_plan(rollout).per_minute == 30
    event = rollout.events.get(kind="started")
    assert (event.actor, event.reason) == ("rosa", "lips")


def test_a_draft_touches_no_frame_until_it_is_started(logged_in: Client, world: World) -> None:
    start = timezone.now() + timedelta(days=2)
    logged_in.post("/rollouts/new/", form(world, draft="1", start_at=start.isoformat()))
    rollout = Rollout.objects.get(group__name="english")
    assert rollout.state == "draft"
    assert not rollout.deployments.exists()
    address = f"/rollouts/{rollout.pk}/"
    text = logged_in.get(address).content.decode()
    assert "A draft: nothing is offered" in text
    assert "the rollout takes the 12 frames of the group" in text
    answer = logged_in.post(f"{address}start/", {"seen_state": str(rollout.revision), "reason": "go"})
    assert answer.status_code == 302
    rollout.refresh_from_db()
    assert rollout.state == "scheduled"
    text = logged_in.get(address).content.decode()
    assert "It begins at " in text
    assert f'href="{address}start/' not in text, "a scheduled rollout begins at its hour"


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_a_refused_form_keeps_its_input_and_says_why_in_the_readers_language(
    logged_in: Client, world: World, language: str
) -> None:
    given = form(world, start="1", group="mandarin", per_minute="17", reason="what I wrote", pause_on_harm="on")
    answer = logged_in.post("/rollouts/new/", given, headers={"accept-language": language})
    text = answer.content.decode()
    assert answer.status_code == 409, "another rollout has these frames"
    assert ("is under way on frames of the group mandarin" in text) == (language == "en")
    assert ("正在分组“mandarin”的相框" in text) == (language == "zh-hans")
    assert 'name="per_minute" value="17"' in text
    assert "what I wrote</textarea>" in text
    assert 'name="pause_on_harm" checked' in text
    assert f'<option value="{world.fix.digest}" selected>' in text
    assert Rollout.objects.count() == 1


def test_a_form_without_what_it_needs_starts_nothing(logged_in: Client, world: World) -> None:
    for given, said in (
        ({"reason": " "}, "Write why"),
        ({"release": "nothing"}, "Choose a release."),
        ({"group": "nobody"}, "Choose a FrameGroup."),
        ({"shares": "x"}, "Put it right"),
    ):
        answer = logged_in.post("/rollouts/new/", form(world, start="1", **given))
        assert answer.status_code == 400
        assert said in answer.content.decode()
    assert Rollout.objects.count() == 1


def test_a_group_that_cannot_be_read_gives_its_sentence(logged_in: Client, world: World) -> None:
    FrameGroup.objects.create(name="broken", query="colour=red")
    answer = logged_in.post("/rollouts/new/", form(world, start="1", group="broken"))
    assert answer.status_code == 400
    assert "A group cannot ask for" in answer.content.decode()


def test_a_link_fills_the_form_in(logged_in: Client, world: World) -> None:
    text = logged_in.get("/rollouts/new/?target=locale%3Dzh&group=mandarin").content.decode()
    assert 'name="target" value="locale=zh"' in text
    assert '<option value="mandarin" selected>' in text
    assert '<option value="standard" selected>' in text


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_only_releasers_plan_rollouts(client: Client, world: World, role: Role) -> None:
    client.force_login(make_user("li", role))
    assert client.get("/rollouts/new/").status_code == 403
    assert client.post("/rollouts/new/", form(world, start="1")).status_code == 403
    assert 'href="/rollouts/new/"' not in client.get("/rollouts/").content.decode()
    assert Rollout.objects.count() == 1


def test_the_form_refuses_forged_posts(user: Any, world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="rosa"))
    assert client.post("/rollouts/new/", form(world, start="1")).status_code == 403


def test_a_preview_says_who_comes_when_and_who_is_left_out_and_starts_nothing(logged_in: Client, world: World) -> None:
    pinned = next(frame for frame in world.frames if frame.locale == "en")
    pins.pin(pinned.pk, None, "in the hall", "rosa")
    answer = logged_in.post("/rollouts/new/", form(world, preview="1", reason="", per_minute="17"))
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "11 frames of 11 households can take part." in text
    assert f"Frame {pinned.pk} is pinned (in the hall)" in text
    assert "Nothing has been changed." in text
    assert 'name="per_minute" value="17"' in text, "the form is there to be sent"
    assert Rollout.objects.count() == 1
    told = logged_in.post("/rollouts/new/", form(world, preview="1"), headers={"accept-language": "zh-hans"})
    assert "可参加的相框 11 台" in told.content.decode()


def test_a_group_too_small_for_a_verdict_is_warned_of_with_what_to_use_instead(logged_in: Client, world: World) -> None:
    FrameDay.objects.filter(frame__locale="en").delete()
    given = form(world, preview="1", policy="small-fleet")
    text = logged_in.post("/rollouts/new/", given).content.decode()
    assert "days of history; 4 are needed" in text
    assert "Use plain stages instead, at which a person decides" in text
    told = logged_in.post("/rollouts/new/", given, headers={"accept-language": "zh-hans"}).content.decode()
    assert "请改用由人工推进的普通阶段" in told


def test_a_preview_of_a_group_that_another_rollout_has_says_it_cannot_start(logged_in: Client, world: World) -> None:
    text = logged_in.post("/rollouts/new/", form(world, preview="1", group="mandarin")).content.decode()
    assert "is under way on frames of the group mandarin" in text


def test_a_draft_has_a_preview_and_others_have_none(logged_in: Client, world: World) -> None:
    logged_in.post("/rollouts/new/", form(world, draft="1"))
    draft = Rollout.objects.get(state="draft")
    assert f'href="/rollouts/{draft.pk}/preview/"' in logged_in.get(f"/rollouts/{draft.pk}/").content.decode()
    assert (
        "12 frames of 12 households can take part." in logged_in.get(f"/rollouts/{draft.pk}/preview/").content.decode()
    )
    assert logged_in.get(f"/rollouts/{world.rollout.pk}/preview/").status_code == 404


def forecast(**changes: Any) -> Forecast:
    usual: dict[str, Any] = {
        "history_days": 28,
        "stages": (
            StageHours(number=1, hours_median=48.0, hours_high=61.0, bottleneck="dwell"),
            StageHours(number=2, hours_median=None, hours_high=None, bottleneck="completion"),
        ),
        "hours_median": 130.0,
        "hours_high": None,
        "promoted": 0.62,
        "rolled_back": 0.01,
        "harms": (HarmHours(metric="power", effect=0.2, rolled_back=0.99, hours_median=42.0, hours_high=60.0),),
        "enough": False,
        "warning": "English.",
        "warning_code": Shortage.TOO_SMALL.value,
        "warning_parameters": {"frames": 200, "percent": 62, "days": 28, "metric": "completion"},
        "instead": "small-fleet",
    }
    return Forecast(**(usual | changes))


def test_what_is_to_be_expected_is_told_stage_by_stage(world: World) -> None:
    found = preview(world.fix, world.group, of_shares([0.1, 0.25]))
    told = previewed(replace(found, forecast=forecast()))
    assert [stage.expected for stage in told.stages] == [
        "2 d 0 h (9 of 10: 2 d 13 h); the dwell takes longest",
        "no verdict: Completion takes longest",
    ]
    assert told.warnings[0].startswith("200 frames are too few for these margins: only 62 % of harmless releases")
    assert told.warnings[1] == "Use the policy for small fleets instead: this group is large enough for it."
    assert told.facts[0] == "From 28 days of this group's past: 62 % of harmless releases would be promoted in time."
    assert told.facts[1] == "Until the last verdict: 5 d 10 h in the middle; more than 1 in 10 reach none in time."
    assert told.facts[2] == "Clear harm (Power +0.20 W): 99 % are rolled back, after 1 d 18 h in the middle."


def test_a_warning_that_nobody_has_words_for_is_told_as_it_came(world: World) -> None:
    found = preview(world.fix, world.group, of_shares([0.1]))
    for strange in (forecast(warning_code="new_one", instead=None), forecast(warning_parameters={}, instead=None)):
        assert previewed(replace(found, forecast=strange)).warnings == ("English.",)
    assert previewed(replace(found, forecast=forecast(enough=True))).warnings == ()
    brings = previewed(replace(found, forecast=None, agent="2.0")).facts
    assert brings == ("The release brings agent 2.0: frames change over to it with the rest.",)


@pytest.mark.parametrize("code", [*Shortage, SHORT_HISTORY])
def test_every_shortage_has_words_in_chinese(code: str) -> None:
    with translation.override("zh-hans"):
        assert chinese(str(WARNINGS[code]))
