"""What goes wrong around rollouts: odd groups, stages that hold nobody, one rollout that fails beside others."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from fleet.models import FrameGroup
from ota.models import Deployment, DesiredState, Release, Rollout
from ota.selectors_offers import standing_offers
from ota.services import director, offers, rollouts
from tests.ota.world import Enrol, commit, report

pytestmark = pytest.mark.django_db


def do(rollout: Rollout, kind: str) -> Rollout:
    rollout.refresh_from_db()
    return rollouts.command(rollout.pk, kind, str(rollout.revision), "li", "because")


def succeeded(release: Release, group: FrameGroup) -> Rollout:
    """A rollout to everybody, gone through."""
    rollout = rollouts.start(release, group, [1.0], "li", "")
    rollouts.tick(rollout.pk)
    commit(rollout)
    rollouts.tick(rollout.pk)
    rollout.refresh_from_db()
    assert rollout.state == "succeeded"
    return rollout


def desired() -> set[str]:
    return {str(row.release) for row in DesiredState.objects.select_related("release")}


def spoil(group: FrameGroup, query: str = "colour=red") -> None:
    """A query that an older version could read, or that somebody wrote into the table."""
    FrameGroup.objects.filter(pk=group.pk).update(query=query)


def test_stages_that_hold_no_frame_are_refused(release_1_0: Release, zh: FrameGroup, frames: Enrol) -> None:
    frames(3)
    with pytest.raises(rollouts.NotAllowed, match=r"it has 3, so give larger shares\.$"):
        rollouts.start(release_1_0, zh, [1e-12], "li", "")
    assert not Rollout.objects.exists()
    assert not Deployment.objects.exists()


def test_a_group_that_cannot_be_read_pauses_its_rollout_and_no_other(
    release_1_0: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(2, "zh", "zh")
    frames(2, "en", "en")
    odd = rollouts.start(release_1_0, zh, [1.0], "li", "")
    other = rollouts.start(release_1_0, FrameGroup.objects.create(name="en", query="locale=en"), [1.0], "li", "")
    spoil(zh)

    assert rollouts.tick_all() == 2

    odd.refresh_from_db()
    other.refresh_from_db()
    assert (odd.state, other.state, other.current_stage) == ("paused", "running", 1)
    assert "cannot be read" in odd.reason
    assert "put it right" in odd.reason
    assert odd.events.latest("id").actor == rollouts.ENGINE

    do(odd, "resume")
    with pytest.raises(rollouts.NotAllowed, match="cannot be read"):
        do(odd, "advance")
    spoil(zh, "locale=zh")
    assert do(odd, "advance").current_stage == 1


def test_a_rollout_that_fails_inside_holds_up_no_other(
    release_1_0: Release, zh: FrameGroup, frames: Enrol, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames(2, "zh", "zh")
    frames(2, "en", "en")
    odd = rollouts.start(release_1_0, zh, [1.0], "li", "")
    other = rollouts.start(release_1_0, FrameGroup.objects.create(name="en", query="locale=en"), [1.0], "li", "")
    offer = offers.offer_due

    def broken(rollout: Rollout, *rest: Any) -> int:
        if rollout.pk == odd.pk:
            raise RuntimeError("a fault of ours")
        return offer(rollout, *rest)

    monkeypatch.setattr(offers, "offer_due", broken)
    assert rollouts.tick_all() == 1
    other.refresh_from_db()
    assert other.current_stage == 1


def test_release_by_release_back_to_the_first(
    release_1_1: Release, release_1_0: Release, release_1_2: Release, zh: FrameGroup, frames: Enrol
) -> None:
    """1.0, 1.1, 1.2, then 1.2 is rolled back, and then 1.1 too: nobody is left behind."""
    ids = frames(4)
    director.set_desired(ids, release_1_0)
    first, second = succeeded(release_1_1, zh), succeeded(release_1_2, zh)
    do(second, "rollback")
    assert desired() == {"talking-portrait 1.1"}
    do(first, "rollback")
    assert desired() == {"talking-portrait 1.0"}


def test_what_a_later_rollout_confirmed_stays(
    release_1_1: Release, release_1_0: Release, zh: FrameGroup, frames: Enrol
) -> None:
    """The same release twice: the older rollout's rollback leaves alone what the newer one means."""
    director.set_desired(frames(4), release_1_0)
    first = succeeded(release_1_1, zh)
    again = rollouts.start(release_1_1, zh, [1.0], "li", "")
    rollouts.tick(again.pk)
    do(first, "rollback")
    assert desired() == {"talking-portrait 1.1"}


def test_a_release_can_be_rolled_out_again_after_its_rollback(
    release_1_1: Release, release_1_0: Release, zh: FrameGroup, frames: Enrol
) -> None:
    ids = frames(4)
    director.set_desired(ids, release_1_0)
    first = succeeded(release_1_1, zh)
    do(first, "rollback")
    for frame in ids:
        report(frame, "committed", release_1_0.digest, desired_version=3)
    again = succeeded(release_1_1, zh)
    assert desired() == {"talking-portrait 1.1"}
    do(again, "rollback")
    assert desired() == {"talking-portrait 1.0"}


def test_a_group_that_cannot_be_read_hides_no_other_from_the_api(zh: FrameGroup, client: Client) -> None:
    from fleet.services.tokens import create_token
    from tests.fleet.factories import make_user

    FrameGroup.objects.create(name="en", query="locale=en")
    spoil(zh)
    token = create_token(make_user(), "test")
    found = client.get("/api/v1/groups/", headers={"authorization": f"Token {token}"}).json()["results"]
    assert [(row["name"], row["frames"]) for row in found] == [("en", 0), ("zh", None)]


def test_the_admin_takes_no_query_that_cannot_be_read(zh: FrameGroup, client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    refused = client.post(f"/admin/fleet/framegroup/{zh.pk}/change/", {"name": "zh", "query": "colour=red"})
    assert "A group cannot ask for" in refused.content.decode()
    zh.refresh_from_db()
    assert zh.query == "locale=zh"
    assert client.post(f"/admin/fleet/framegroup/{zh.pk}/change/", {"name": "zh", "query": ""}).status_code == 302


def test_what_a_later_rollout_holds_cannot_be_taken_back(
    release_1_1: Release, release_1_0: Release, zh: FrameGroup, frames: Enrol
) -> None:
    director.set_desired(frames(4), release_1_0)
    first = succeeded(release_1_1, zh)
    assert standing_offers(first).count() == 4
    again = rollouts.start(release_1_1, zh, [1.0], "li", "")
    rollouts.tick(again.pk)
    assert (standing_offers(first).count(), standing_offers(again).count()) == (0, 4)
