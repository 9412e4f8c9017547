"""Two-person approval: where it is on, nobody starts a rollout alone."""

import datetime as dt
from typing import Any

import pytest

from fleet.models import AuditEntry, FrameGroup
from ota.domain.plan import Plan, of_shares
from ota.domain.rollout import RolloutState
from ota.models import DesiredState, Release, Rollout
from ota.services import rollouts
from tests.ota.world import Enrol

pytestmark = pytest.mark.django_db

NOON = dt.datetime(2026, 12, 1, 12, 0, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def two_person(settings: Any) -> None:
    settings.FRAMEFLEET_TWO_PERSON = True


@pytest.fixture
def proposal(frames: Enrol, release_1_1: Release, zh: FrameGroup) -> Rollout:
    frames(20)
    return rollouts.start(release_1_1, zh, [1.0], "li", "Mandarin lips")


def give(rollout: Rollout, kind: str, actor: str) -> Rollout:
    seen = str(Rollout.objects.get(pk=rollout.pk).revision)
    return rollouts.command(rollout.pk, kind, seen, actor, "looked at it")


def test_a_proposal_offers_nothing_however_often_the_engine_wakes(proposal: Rollout) -> None:
    for _ in range(3):
        assert not rollouts.tick(proposal.pk)
    assert rollouts.tick_all() == 0
    assert proposal.state == RolloutState.PROPOSED
    assert not DesiredState.objects.filter(release=proposal.release).exists()


def test_its_author_cannot_approve_it(proposal: Rollout) -> None:
    with pytest.raises(rollouts.NotAllowed, match="somebody else has to approve"):
        give(proposal, "approve", "li")
    assert Rollout.objects.get().state == RolloutState.PROPOSED


@pytest.mark.parametrize("kind", ["pause", "resume", "advance", "rollback"])
def test_nothing_else_gets_it_going(proposal: Rollout, kind: str) -> None:
    with pytest.raises(rollouts.NotAllowed, match="possible now: approve, abort"):
        give(proposal, kind, "wang")


def test_somebody_elses_approval_lets_it_begin_and_is_written_down(proposal: Rollout) -> None:
    assert give(proposal, "approve", "wang").state == RolloutState.RUNNING
    assert rollouts.tick(proposal.pk)
    assert DesiredState.objects.filter(release=proposal.release).count() == 20
    said = AuditEntry.objects.filter(action__startswith="rollout.").order_by("id").values_list("actor", "action")
    assert list(said)[:2] == [("li", "rollout.proposed"), ("wang", "rollout.approved")]


def test_it_can_be_withdrawn(proposal: Rollout) -> None:
    assert give(proposal, "abort", "li").state == RolloutState.ABORTED


def test_a_second_proposal_over_the_same_frames_is_refused(
    proposal: Rollout, release_1_1: Release, zh: FrameGroup
) -> None:
    with pytest.raises(rollouts.NotAllowed, match=f"Rollout {proposal.pk}"):
        rollouts.start(release_1_1, zh, [1.0], "wang", "")


def test_approval_that_has_nothing_to_approve_is_refused(proposal: Rollout) -> None:
    give(proposal, "approve", "wang")
    with pytest.raises(rollouts.NotAllowed, match="approve is not possible"):
        give(proposal, "approve", "zhao")


def test_whoever_starts_somebody_elses_draft_cannot_approve_it(
    frames: Enrol, release_1_1: Release, zh: FrameGroup
) -> None:
    frames(20)
    drafted = rollouts.draft(release_1_1, zh, [1.0], "wang", "")
    give(drafted, "start", "li")
    with pytest.raises(rollouts.NotAllowed, match="somebody else has to approve"):
        give(drafted, "approve", "li")
    assert give(drafted, "approve", "wang").state == RolloutState.RUNNING


def test_a_draft_whose_season_is_over_is_not_started(frames: Enrol, release_1_1: Release, zh: FrameGroup) -> None:
    frames(3)
    plan = Plan(stages=of_shares([1.0]).stages, end_at=NOON + dt.timedelta(hours=1))
    drafted = rollouts.draft(release_1_1, zh, plan, "li", "", NOON)
    with pytest.raises(rollouts.NotAllowed, match="end"):
        rollouts.command(drafted.pk, "start", "1", "li", "", NOON + dt.timedelta(hours=2))
    assert Rollout.objects.get().state == RolloutState.DRAFT
