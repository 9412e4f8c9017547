"""A preview says whom a rollout would hold, whom it leaves out, and by the group's own past when it can be decided."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from rest_framework.test import APIClient

from fleet.models import Frame, FrameDay, FrameGroup
from fleet.permissions import Role
from fleet.services.tokens import create_token
from ota.domain.plan import by_evidence, of_shares
from ota.models import Pin, Release, Rollout
from ota.selectors_past import past_of
from ota.selectors_preview import preview
from ota.services import rollouts
from tests.fleet.factories import make_user
from tests.ota.world import Enrol

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)


def live(ids: list[str], days: int, until: datetime = NOW) -> None:
    """Each frame plays five films a day, of which four are watched to the end, as chance has it."""
    random = np.random.default_rng(7)
    rows = []
    for frame_id in ids:
        liking = random.beta(7, 2)
        for back in range(1, days + 1):
            count = int(random.poisson(5))
            rows.append(
                FrameDay(
                    frame_id=frame_id,
                    day=(until - timedelta(days=back)).date(),
                    playbacks=count,
                    completed=int(random.binomial(count, liking)),
                    complaints=int(random.random() < 0.02),
                    power_sum_w=float(random.normal(4.8 * count, 0.15 * count**0.5)),
                    power_samples=count,
                )
            )
    FrameDay.objects.bulk_create(rows, batch_size=5_000)


def test_stages_hold_whom_they_say_and_arms_add_up(release_1_0: Release, zh: FrameGroup, frames: Enrol) -> None:
    frames(200)
    found = preview(release_1_0, zh, by_evidence("small-fleet"), NOW)
    assert (found.frames, found.households, found.refused) == (200, 200, None)
    assert sum(stage.frames for stage in found.stages) == sum(found.arms.values()) == 200
    first, second, most, everybody = found.stages
    assert (second.canaries, first.controls) == (first.frames + second.frames, second.controls)
    assert second.canaries + second.controls == 200
    assert (most.controls, everybody.controls) == (everybody.frames, 0)
    assert len(first.examples) == min(10, first.frames)
    assert found == preview(release_1_0, zh, by_evidence("small-fleet"), NOW), "the same twice"
    assert not Rollout.objects.exists()


def test_whoever_is_left_out_is_counted_with_the_reason(release_1_0: Release, zh: FrameGroup, frames: Enrol) -> None:
    ids = frames(12)
    Pin.objects.create(frame_id=ids[0], reason="at the museum", by="li")
    Frame.objects.filter(pk__in=ids[1:3]).update(lifecycle=Frame.Lifecycle.RETIRED)
    found = preview(release_1_0, zh, of_shares([1.0]), NOW)
    assert found.frames == 9
    assert {(one.code, one.frames, one.examples) for one in found.excluded} == {
        ("frame_pinned", 1, (ids[0],)),
        ("frame_retired", 2, tuple(ids[1:3])),
    }
    assert "at the museum" in next(one.sentence for one in found.excluded if one.code == "frame_pinned")


def test_it_says_what_a_start_would_be_refused_for(release_1_0: Release, zh: FrameGroup, frames: Enrol) -> None:
    def both() -> tuple[str | None, str]:
        with pytest.raises(rollouts.NotAllowed) as refused:
            rollouts.start(release_1_0, zh, [1.0], "li", "")
        assert refused.value.cause is not None
        return preview(release_1_0, zh, of_shares([1.0])).refused_code, refused.value.cause.code.value

    assert both() == ("empty_group", "empty_group")
    frames(4)
    other = FrameGroup.objects.create(name="other", query="locale=zh")
    rollouts.start(release_1_0, other, [1.0], "li", "")
    assert both() == ("under_way", "under_way")


def test_the_past_is_whole_days_by_household(frames: Enrol) -> None:
    ids = frames(3)
    Frame.objects.filter(pk=ids[1]).update(household_id=ids[0])
    live(ids, 10)
    FrameDay.objects.create(frame_id=ids[0], day=NOW.date(), playbacks=99)
    homes = [(frame_id, home, "rk3588") for frame_id, home in zip(ids, [ids[0], ids[0], ids[2]], strict=True)]
    past = past_of(homes, NOW)
    assert (len(past.frames), past.now_h) == (2, 240.0)
    rows = FrameDay.objects.filter(frame_id__in=ids[:2], day__lt=NOW.date())
    assert past.days.playbacks[past.days.frame == 0].sum() == sum(row.playbacks for row in rows)
    done = past.days.sums["completion"].total[past.days.frame == 0].sum()
    assert done == sum(row.completed for row in rows)
    assert past_of(homes, NOW - timedelta(days=60)).now_h == 0


def test_a_large_group_is_told_when_and_a_small_one_what_to_use_instead(
    release_1_0: Release, zh: FrameGroup, frames: Enrol
) -> None:
    live(frames(600), 14)
    found = preview(release_1_0, zh, by_evidence("small-fleet"), NOW).forecast
    assert found is not None
    assert (found.enough, found.instead, found.history_days) == (True, None, 14)
    assert found.hours_median is not None
    assert 96 <= found.hours_median < 600  # two stages of 48 h at least
    assert [stage.number for stage in found.stages] == [1, 2]
    assert {harm.metric for harm in found.harms} == {"completion", "power", "complaint"}

    Frame.objects.filter(pk__gte="frame-0080").update(locale="en")
    small = preview(release_1_0, zh, by_evidence("standard"), NOW).forecast
    assert small is not None
    assert not small.enough
    assert small.warning_code == "too_small"
    assert small.warning.startswith("80 frames are too few")
    assert small.instead in ("small-fleet", "manual")


def test_a_group_without_a_past_is_told_so(release_1_0: Release, zh: FrameGroup, frames: Enrol) -> None:
    live(frames(20), 2)
    found = preview(release_1_0, zh, by_evidence("standard"), NOW).forecast
    assert found is not None
    assert (found.warning_code, found.instead, found.history_days) == ("short_history", "manual", 2)
    assert preview(release_1_0, zh, of_shares([1.0]), NOW).forecast is None, "nothing waits for evidence"


def test_it_is_asked_over_rest_by_anybody_and_keeps_nothing(
    release_1_0: Release, zh: FrameGroup, frames: Enrol
) -> None:
    frames(30)
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Token {create_token(make_user('vi', Role.VIEWER), 'test')}")
    body: dict[str, Any] = {"release": "talking-portrait 1.0", "group": "zh", "stages": [0.5, 1]}
    answer = api.post("/api/v1/rollouts/preview/", body, format="json")
    assert answer.status_code == 200, answer.content
    assert sum(stage["frames"] for stage in answer.json()["stages"]) == 30
    odd = api.post("/api/v1/rollouts/preview/", {**body, "stages": [1, 0.5]}, format="json")
    assert (odd.status_code, "ascending" in odd.json()["detail"]) == (400, True)
    assert not Rollout.objects.exists()

    draft = rollouts.draft(release_1_0, zh, by_evidence("standard"), "li", "")
    found = api.get(f"/api/v1/rollouts/{draft.pk}/preview/").json()
    assert (found["frames"], found["forecast"]["warning_code"]) == (30, "short_history")
    rollouts.command(draft.pk, "start", str(draft.revision), "li", "")
    assert "only a draft" in api.get(f"/api/v1/rollouts/{draft.pk}/preview/").json()["detail"]
