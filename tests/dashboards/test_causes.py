"""What the engine and the frames say, told to people in their own language."""

import pytest
from django.test import Client
from django.utils import timezone, translation

from dashboards import causes, words
from device_agent.storage.segments import GAP
from fleet.models import HealthEvent
from ota.domain.causes import Cause, Code
from ota.services import rollouts
from protocol.errors import Reason
from tests.dashboards.world import REFUSAL, World

FRAME: dict[str, int | str] = {"frame": "0001"}
FIGURES: dict[Code, dict[str, int | str]] = {
    Code.TOO_MANY_FAILED: {"stage": 2, "failed": 5, "frames": 10, "allowed": 1},
    Code.NONE_COMMITTED: {"stage": 1, "frames": 3},
    Code.NOT_POSSIBLE: {"state": "rolled back", "command": "pause", "possible": "abort, rollback"},
    Code.NOTHING_POSSIBLE: {"state": "rolled back", "command": "pause"},
    Code.LAST_STAGE: {"stage": 3},
    Code.OWN_PROPOSAL: {},
    Code.HARM: {"stage": 2, "metric": "completion", "evidence": "23.4", "needed": "20"},
    Code.SEASON_OVER: {},
    Code.SUPERSEDED: {"rollout": 7},
    Code.EMERGENCY_REASON: {},
    Code.EMPTY_GROUP: {"group": "成都"},
    Code.NO_FRAME_IN_STAGES: {"group": "成都", "frames": 12},
    Code.UNDER_WAY: {"rollout": 7, "release": "1.1", "frame": "0001", "group": "成都"},
    Code.FITS_NOBODY: {"frames": 12, "group": "成都", "hardware": "3588"},
    Code.SUPERSEDES_NONE: {"rollout": 7, "state": "rolled back"},
    Code.FRAME_NOT_IN_GROUP: FRAME | {"group": "成都"},
    Code.FRAME_AWAITED: FRAME,
    Code.FRAME_RETIRED: FRAME,
    Code.FRAME_PINNED: FRAME | {"reason": "展厅"},
    Code.FRAME_ELSEWHERE: FRAME | {"rollout": 7, "release": "1.1"},
    Code.FRAME_HARDWARE: FRAME | {"needed": "3588", "hardware": "3576"},
    Code.FRAME_AGENT: FRAME | {"needed": "0.2", "agent": "0.1"},
    Code.FRAME_BASE: FRAME | {"needed": "1.0"},
    Code.FRAME_JOINING: FRAME | {"group": "成都"},
    Code.FRAME_NO_STAGE: FRAME,
    Code.FRAME_CONTROL: FRAME | {"stage": 3},
    Code.FRAME_HOLDBACK: FRAME | {"stage": 4},
    Code.FRAME_LATER: FRAME | {"stage": 3},
    Code.FRAME_NOT_BEGUN: FRAME | {"state": "scheduled", "stage": 1},
    Code.FRAME_OVER: FRAME | {"state": "aborted"},
    Code.FRAME_PAUSED: FRAME,
    Code.FRAME_HOURS: FRAME | {"time": "2026-12-01T02:00:00+00:00"},
    Code.FRAME_MOMENT: FRAME | {"time": "2026-12-01T02:00:00+00:00"},
    Code.FRAME_SITE: FRAME | {"site": "一号楼", "most": 2},
    Code.FRAME_RATE: FRAME | {"most": 60},
    Code.FRAME_AT_ONCE: FRAME | {"most": 50},
    Code.FRAME_NEXT: FRAME,
    Code.FRAME_OFFERED: FRAME | {"install": "downloading"},
    Code.FRAME_DARK: FRAME,
    Code.FRAME_FAILED: FRAME | {"failure": "trial_failed", "detail": "0.91 > 0.80"},
    Code.FRAME_RETRY: FRAME | {"failure": "disk_full", "time": "2026-12-01T02:00:00+00:00"},
    Code.FRAME_WITHDRAWN: FRAME,
    Code.FRAME_HAS_IT: FRAME,
    Code.FRAME_RETURNING: FRAME,
    Code.FRAME_RETURNED: FRAME,
    Code.FRAME_STRANDED: FRAME,
    Code.NOBODY_FREE: {"group": "成都", "frames": 12},
    Code.PIN_REASON: {},
    Code.PIN_FRAME: FRAME,
    Code.NOT_PINNED: FRAME,
    Code.FREEZE_REASON: {},
    Code.FROZEN_ALREADY: {"reason": "春节"},
    Code.NOT_FROZEN: {},
    Code.WAITS_START: {"time": "2026-12-01T08:00:00+08:00"},
    Code.WAITS_FROZEN: {"reason": "春节"},
    Code.WAITS_FRAMES: {"stage": 2, "waiting": 3, "frames": 115},
    Code.WAITS_DWELL: {"stage": 2, "hours": 31},
    Code.WAITS_PERSON: {"stage": 2},
    Code.WAITS_LOOK: {"stage": 2},
    Code.WAITS_FRESH_LOOK: {"stage": 2, "hours": 3},
    Code.WAITS_EVIDENCE: {"stage": 2, "why": "not_enough_evidence, completion, complaint, power"},
    Code.WAITS_BENEFIT: {"stage": 2, "metric": "completion"},
    Code.PLAN_UNREADABLE: {"detail": "$.0"},
    Code.PLAN_POLICY: {"policy": "大胆", "possible": "standard, small-fleet"},
    Code.PLAN_STAGES: {"most": 10},
    Code.PLAN_SHARE: {},
    Code.PLAN_SHRINKS: {"stage": 3, "share": "5 %", "before": "25 %", "former": 2},
    Code.PLAN_DWELL: {"stage": 2},
    Code.PLAN_METRIC: {"metric": "dark", "possible": "completion, power, latency, fps, complaint"},
    Code.PLAN_MARGIN: {"stage": 2, "metric": "power", "margin": "-0.1"},
    Code.PLAN_RATIO: {"stage": 2, "metric": "complaint", "margin": "0.5"},
    Code.PLAN_NO_CONTROL: {"stage": 3},
    Code.PLAN_HOLDBACK: {"most": "50 %"},
    Code.PLAN_ZONE: {"time": "2026-12-01T08:00:00"},
    Code.PLAN_START_PAST: {"time": "2026-12-01T08:00:00+00:00"},
    Code.PLAN_END: {"time": "2026-12-01T08:00:00+00:00"},
    Code.PLAN_WINDOW: {},
    Code.PLAN_BLACKOUT: {},
    Code.PLAN_TIMEOUT: {},
    Code.PLAN_BENEFIT: {"metric": "power"},
}


def chinese(text: str) -> bool:
    return any("\u4e00" <= char <= "\u9fff" for char in text)


@pytest.mark.parametrize("code", Code)
def test_every_cause_is_told_in_chinese_with_its_figures(code: Code) -> None:
    cause = Cause(code, FIGURES[code])
    with translation.override("zh-hans"):
        told = causes.said(cause)
    assert chinese(told)
    assert "{" not in told
    assert all(str(figure) in told for figure in cause.parameters.values() if isinstance(figure, int))
    assert not any(char.isascii() and char.isalpha() for char in told), "no English word is left"


@pytest.mark.parametrize(
    "kept",
    [
        None,
        "text",
        {"code": "from_the_future", "parameters": {}},
        {"code": "last_stage", "parameters": {}},
        {"code": ["last_stage"], "parameters": {}},
        {"code": "last_stage"},
    ],
)
def test_a_cause_that_cannot_be_read_leaves_the_word_to_its_sentence(kept: object) -> None:
    assert causes.in_detail({"cause": kept}) == ""


def pause_by_engine(world: World) -> str:
    """The engine pauses the world's rollout over its failures. Returns its English sentence."""
    world.rollout.deployments.filter(stage=2).update(state="failed", reason="tampered_chunk")
    assert rollouts.tick(world.rollout.pk)
    world.rollout.refresh_from_db()
    assert world.rollout.state == "paused"
    return world.rollout.reason


def test_why_the_engine_paused_is_told_in_the_readers_language(logged_in: Client, world: World) -> None:
    sentence = pause_by_engine(world)
    address = f"/rollouts/{world.rollout.pk}/"
    assert logged_in.get(address).content.decode().count(sentence) == 2, "below the verdict and in the trail"
    text = logged_in.get(address, headers={"accept-language": "zh-hans"}).content.decode()
    assert sentence not in text
    assert text.count("台失败或回退，超过允许的 1 台。请查看失败原因") == 2


def test_an_older_sentence_of_the_engine_is_marked_as_english(logged_in: Client, world: World) -> None:
    sentence = pause_by_engine(world)
    world.rollout.events.filter(kind="paused").update(detail={})
    address = f"/rollouts/{world.rollout.pk}/"
    text = logged_in.get(address, headers={"accept-language": "zh-hans"}).content.decode()
    assert text.count(f' lang="en">{sentence}<') == 2


def test_what_a_person_wrote_stays_as_it_is(logged_in: Client, world: World) -> None:
    form = {"seen_state": str(world.rollout.revision), "reason": "成都用户投诉"}
    logged_in.post(f"/rollouts/{world.rollout.pk}/pause/", form)
    text = logged_in.get(f"/rollouts/{world.rollout.pk}/").content.decode()
    assert text.count("<span>成都用户投诉</span>") == 1, "why it is paused, in no language that anybody knows"


@pytest.mark.parametrize("kind", [*Reason, GAP, "playback_refused", "playback_failed", "subscription_refused"])
def test_every_reason_and_kind_has_words_in_both_languages(kind: str) -> None:
    with translation.override("en"):
        english = str(words.reason(kind))
    with translation.override("zh-hans"):
        told = str(words.reason(kind))
    assert english != kind
    assert chinese(told)


def test_a_frames_own_sentence_stands_below_its_meaning_and_is_marked_as_english(
    logged_in: Client, world: World
) -> None:
    now = timezone.now()
    HealthEvent.objects.create(frame=world.failed, at=now, received_at=now, kind="playback_refused", detail="No face.")
    for address in ("/", f"/frames/{world.failed.pk}/", f"/rollouts/{world.rollout.pk}/"):
        text = logged_in.get(address, headers={"accept-language": "zh-hans"}).content.decode()
        meaning, own = text.index("试运行失败"), text.index(f'lang="en">{REFUSAL}<')
        assert meaning < own
    text = logged_in.get("/", headers={"accept-language": "zh-hans"}).content.decode()
    assert text.index("照片或语音被拒绝") < text.index('lang="en">No face.<')
