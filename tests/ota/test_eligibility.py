"""Why a frame is left out of a rollout, and why it does or does not have the release."""

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from fleet.models import Frame, FrameGroup
from ota.domain.causes import Code
from ota.domain.plan import Plan, StagePlan, Window, of_shares
from ota.models import Release, Rollout
from ota.selectors_eligibility import exclusions, reason_for
from ota.selectors_fit import conditions, suited
from ota.services import freezes, membership, pins, rollouts
from protocol.repository import ArtifactManifest
from tests.ota.offline import File, Offline
from tests.ota.world import Enrol, commit, fail, offered, push, report

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "draw_salt", lambda group, shares: "b" * 32)


def told(rollout: Rollout, frame_id: str, now: dt.datetime | None = None) -> Code:
    rollout.refresh_from_db()
    cause = reason_for(rollout, frame_id, now)
    assert str(cause), "a sentence that can be read"
    return cause.code


def left_out(release: Release, group: FrameGroup, plan: Plan | None = None) -> dict[Code, tuple[str, ...]]:
    return {one.reason: one.examples for one in exclusions(release, group, plan or of_shares([1.0]))}


@pytest.fixture
def demanding(offline: Offline, base: File, release_1_0: Release) -> Release:
    """For rk3588 with agent 2.0 and newer."""
    manifest = ArtifactManifest(kind="lora_delta", base_model=base.ref.sha256, hardware=["rk3588"], min_agent="2.0")
    adapter = File("lora/new-2.0.adapter", b"adapter", manifest)
    return push(offline.release("talking-portrait", "2.0", [adapter], [base.ref]))


def test_each_frame_is_left_out_for_the_first_reason_that_holds(
    demanding: Release, release_1_0: Release, zh: FrameGroup, frames: Enrol
) -> None:
    ids = frames(8)
    Frame.objects.filter(pk=ids[0]).update(lifecycle="awaited")
    Frame.objects.filter(pk=ids[1]).update(lifecycle="retired")
    pins.pin(ids[2], None, "in the lab", "li")
    Frame.objects.filter(pk=ids[3]).update(hardware="pi5")
    Frame.objects.filter(pk=ids[4]).update(agent_version="1.9")
    report(ids[5], "idle", None)
    Frame.objects.filter(pk=ids[5]).update(agent_version="2.0")
    only = FrameGroup.objects.create(name="one", query=f"id={ids[6]}")
    other = rollouts.start(release_1_0, only, [1.0], "li", "", base_model=True)

    found = exclusions(demanding, zh, of_shares([1.0]))

    assert [(one.reason, one.frames, one.examples) for one in found] == [
        (Code.FRAME_AWAITED, 1, (ids[0],)),
        (Code.FRAME_RETIRED, 1, (ids[1],)),
        (Code.FRAME_PINNED, 1, (ids[2],)),
        (Code.FRAME_HARDWARE, 1, (ids[3],)),
        (Code.FRAME_AGENT, 1, (ids[4],)),
        (Code.FRAME_BASE, 1, (ids[5],)),
        (Code.FRAME_ELSEWHERE, 1, (ids[6],)),
    ]
    assert str(found[2].cause) == f"Frame {ids[2]} is pinned (in the lab): unpin it to let it take part."
    assert str(found[4].cause) == f"The release needs agent 2.0, and frame {ids[4]} has 1.9."
    assert f"with rollout {other.pk} (talking-portrait 1.0)" in str(found[6].cause)


def test_what_the_preview_leaves_out_is_not_enlisted(demanding: Release, zh: FrameGroup, frames: Enrol) -> None:
    ids = frames(6)
    Frame.objects.filter(pk=ids[0]).update(hardware="pi5")
    Frame.objects.filter(pk=ids[1]).update(agent_version="1")
    pins.pin(ids[2], None, "in the lab", "li")
    assert left_out(demanding, zh).keys() == {Code.FRAME_HARDWARE, Code.FRAME_AGENT, Code.FRAME_PINNED}
    rollout = rollouts.start(demanding, zh, [1.0], "li", "")
    assert set(rollout.deployments.values_list("frame_id", flat=True)) == set(ids[3:])
    assert told(rollout, ids[0]) is Code.FRAME_HARDWARE
    assert told(rollout, ids[1]) is Code.FRAME_AGENT
    assert told(rollout, ids[2]) is Code.FRAME_PINNED


@pytest.mark.parametrize(("own", "brings", "needed"), [("0", "2.0", "0"), ("1.5", "2.0", "1.5"), ("0", None, "2.0")])
def test_with_an_agent_in_the_release_only_what_installs_it_is_asked_of_the_agent_before(
    own: str, brings: str | None, needed: str, offline: Offline, base: File, release_1_0: Release,
    zh: FrameGroup, frames: Enrol,
) -> None:  # fmt: skip
    ids = frames(2)
    Frame.objects.filter(pk=ids[0]).update(agent_version="1.4")
    Frame.objects.filter(pk=ids[1]).update(agent_version="1.9")
    bound = ArtifactManifest(kind="lora_delta", base_model=base.ref.sha256, min_agent="2.0")
    files = [File("lora/new.adapter", b"adapter", bound)]
    if brings is not None:
        files.append(File("agent/new.zip", b"agent", ArtifactManifest(kind="agent", version=brings, min_agent=own)))
    release = push(offline.release("talking-portrait", "2.0", files, [base.ref]))
    found = conditions(release)
    assert (found.min_agent, found.agent, found.base) == (needed, brings or "", base.ref.sha256)
    too_old = {"0": 0, "1.5": 1, "2.0": 2}[needed]
    assert suited(release, Frame.objects.all(), base_model=True).count() == 2 - too_old


def test_a_release_that_fits_nobody_is_refused(demanding: Release, zh: FrameGroup, frames: Enrol) -> None:
    frames(3)
    Frame.objects.update(hardware="pi5")
    with pytest.raises(rollouts.NotAllowed, match=r"fits none of the 3 frames of the group zh, which are pi5"):
        rollouts.start(demanding, zh, [1.0], "li", "")
    Frame.objects.update(hardware="rk3588")
    for frame in Frame.objects.all():
        pins.pin(frame.pk, None, "a fair", "li")
    with pytest.raises(rollouts.NotAllowed, match=r"None of the 3 frames of the group zh can take part now"):
        rollouts.start(demanding, zh, [1.0], "li", "")


def test_a_frame_asks_its_way_through_a_rollout(
    release_1_0: Release, release_1_1: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(60)
    (elsewhere,) = frames(1, "en", "en")
    plan = Plan(stages=[StagePlan(share=0.3), StagePlan(share=1.0)], holdback=0.1)
    rollout = rollouts.start(release_1_1, zh, plan, "li", "")
    by_arm: dict[Any, str] = {(row.stage, row.arm): row.frame_id for row in rollout.deployments.all()}
    canary, control, held = by_arm[1, "canary"], by_arm[2, "control"], by_arm[3, "holdback"]
    assert told(rollout, canary) is Code.FRAME_NOT_BEGUN
    rollouts.tick(rollout.pk)
    assert told(rollout, canary) is Code.FRAME_OFFERED
    assert (told(rollout, control), told(rollout, held)) == (Code.FRAME_CONTROL, Code.FRAME_HOLDBACK)
    assert str(reason_for(rollout, held)).startswith(f"Frame {held} is held back until stage 3")
    assert told(rollout, elsewhere) is Code.FRAME_NOT_IN_GROUP
    (newcomer,) = frames(1, "new")
    assert told(rollout, newcomer) is Code.FRAME_JOINING
    first, second, *_ = offered(rollout)
    fail(first)
    assert told(rollout, first.frame_id) is Code.FRAME_FAILED
    rollouts.tick(rollout.pk, timezone.now() + dt.timedelta(hours=25))
    assert told(rollout, second.frame_id) is Code.FRAME_DARK
    commit(rollout)
    assert told(rollout, canary) is Code.FRAME_HAS_IT
    rollout.refresh_from_db()
    rollouts.command(rollout.pk, "rollback", str(rollout.revision), "li", "complaints")
    assert told(rollout, control) is Code.FRAME_OVER
    stranded = list(rollout.deployments.filter(reason="no_former_release"))
    assert stranded
    assert told(rollout, stranded[0].frame_id) is Code.FRAME_STRANDED


def test_a_frame_of_an_open_stage_says_what_holds_it_up(release_1_1: Release, zh: FrameGroup, frames: Enrol) -> None:
    ids = frames(5)
    noon = timezone.now().replace(hour=12, minute=0)
    Frame.objects.update(timezone="Asia/Shanghai")  # 20:00 there
    plan = Plan(stages=[StagePlan(share=1.0)], windows=[Window(opens=60, closes=300)], at_once=2)
    rollout = rollouts.start(release_1_1, zh, plan, "li", "", noon)
    rollouts.tick(rollout.pk, noon)
    cause = reason_for(rollout, ids[0], noon)
    rollout.refresh_from_db()
    assert str(reason_for(rollout, ids[0], noon)).endswith("T01:00+08:00.")
    assert cause.code is Code.FRAME_NOT_BEGUN or rollout.current_stage == 1
    night = noon + dt.timedelta(hours=6)
    rollouts.tick(rollout.pk, night)
    waits = rollout.deployments.filter(state="pending").values_list("frame_id", flat=True)
    assert len(waits) == 3
    assert told(rollout, waits[0], night) is Code.FRAME_AT_ONCE
    freezes.freeze("a trade fair", "li")
    assert told(rollout, waits[0], night) is Code.WAITS_FROZEN
