"""What the pages compute before they draw: numbers in words, sentences, thin evidence, clocks."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from django.utils import translation

from dashboards import figures, formats, rollout_page, selectors_rollout
from dashboards.stage_strip import strip
from dashboards.trail import trail
from fleet.models import Frame, PowerSample
from ota.models import Rollout
from ota.selectors import EventRow, RolloutDetail, rollout_detail
from ota.selectors_metrics import DayRow, MetricRow
from tests.dashboards.world import BASE, World

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with translation.override("en"):
        yield


def metric_row(frames: int, playbacks: int) -> MetricRow:
    return MetricRow(
        arm="canary",
        release=BASE,
        release_name="talking-portrait 1.0",
        frames=frames,
        playbacks=playbacks,
        completed=playbacks,
        completion_rate=1.0 if playbacks else None,
        complaints=0,
        complaint_rate=0.0 if playbacks else None,
        power_w=None,
    )


def day_row(day: date, arm: str, playbacks: int, rate: float | None) -> DayRow:
    return DayRow(
        day=day,
        arm=arm,
        frames=3,
        playbacks=playbacks,
        completed=0,
        completion_rate=rate,
        complaints=0,
        complaint_rate=rate,
        power_w=None,
    )


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(0.336, 2, "0.34"), (1249.6, 0, "1,250"), (0.05, 1, "0.1"), (1e-7, 2, "0.00")]
)
def test_numbers_are_rounded_not_cut(value: float, digits: int, text: str) -> None:
    assert formats.decimal(value, digits) == text


@pytest.mark.parametrize(("share", "text"), [(0.05, "5 %"), (1.0, "100 %"), (0.125, "12.5 %"), (0.0025, "0.25 %")])
def test_shares_have_as_few_decimals_as_they_need(share: float, text: str) -> None:
    assert formats.share(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0.4, "under 1 s"), (14.9, "14 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (273600, "3 d 4 h")],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


def test_numbers_follow_the_readers_language() -> None:
    with translation.override("zh-hans"):
        assert formats.percent(0.725) == "72.5%"
        assert formats.duration(200) == "3 分 20 秒"
        assert formats.day(date(2026, 11, 7)) == "11月7日"


@pytest.mark.parametrize(
    ("frames", "playbacks", "thin"), [(20, 100, False), (19, 5000, True), (500, 99, True), (0, 0, True)]
)
def test_small_numbers_are_said_to_be_no_evidence(frames: int, playbacks: int, thin: bool) -> None:
    (line,) = figures.metric_lines([metric_row(frames, playbacks)])
    assert (line.thin == "not enough evidence yet") == thin


def test_charts_hold_every_day_of_both_arms_and_skip_what_was_not_measured(world: World) -> None:
    first = date(2026, 11, 1)
    daily = (
        day_row(first, "canary", 50, 0.7),
        day_row(first, "control", 500, 0.71),
        day_row(first + timedelta(1), "canary", 3, 0.9),
        day_row(first + timedelta(1), "control", 0, None),
    )
    detail = replace(rollout_detail(world.rollout), daily=daily)
    completion, complaints, power = figures.arm_charts(detail, [])
    assert "Canary, Nov 1: 70.0 % (50 playbacks)" in completion.svg
    assert "Control, Nov 1: 71.0 % (500 playbacks)" in completion.svg
    assert completion.svg.count('class="dot thin"') == 1
    assert completion.table.columns == ("Canary", "Control")
    assert completion.table.rows[1] == ("Nov 2", ("90.0 % · n = 3", "–"))
    assert "700.0" in complaints.svg
    assert power.svg == ""


def test_stages_that_open_within_a_day_share_one_label() -> None:
    later = NOW + timedelta(days=1)
    opened = [(1, NOW), (2, NOW + timedelta(hours=1)), (3, NOW + timedelta(hours=23)), (4, later)]
    marks = figures.stage_marks(opened)
    assert [mark.label for mark in marks] == ["Stages 1–3", "", "", "Stage 4"]
    assert [mark.at for mark in marks] == [moment for _number, moment in opened], "every opening has its line"


def test_charts_of_simulated_people_say_so_below_the_days(world: World) -> None:
    detail = rollout_detail(world.rollout)
    simulated = figures.arm_charts(detail, [])
    real = figures.arm_charts(replace(detail, simulated=0), [])
    assert all("Simulated people&#x27;s days</text>" in chart.svg for chart in simulated)
    assert not any("imulated" in chart.svg for chart in real)


def test_the_verdict_says_where_a_rollout_stands(world: World) -> None:
    detail: RolloutDetail = rollout_detail(world.rollout)
    stages = tuple(
        replace(stage, opened_at=NOW if stage.number < 3 else None, frames=10, committed=9, failed=0, dark=1)
        for stage in detail.stages
    )
    detail = replace(detail, stages=stages)
    assert rollout_page.verdict(detail) == "Stage 2 of 3: 18 of 20 frames have committed; 0 failed; 2 are dark."
    unopened = tuple(replace(stage, opened_at=None) for stage in stages)
    assert rollout_page.verdict(replace(detail, stages=unopened)) == "The first stage is about to open."
    for state, words in {
        "paused": "Paused in stage 2 of 3: 18 of 20",
        "succeeded": "All stages are complete: 18",
        "aborted": "Aborted in stage 2 of 3, nothing more is offered",
        "rolled_back": "Rolled back in stage 2 of 3",
    }.items():
        assert rollout_page.verdict(replace(detail, state=state)).startswith(words)


def test_the_strip_shows_states_and_times_of_stages(world: World) -> None:
    now = datetime.now(UTC)
    detail = rollout_detail(world.rollout)
    assert [card.state for card in strip(detail, now)] == ["complete", "open", "waiting"]
    assert [card.time for card in strip(detail, now)] == [
        "Took 1 d 0 h.",
        "Open for 1 d 2 h.",
        "Not opened yet.",
    ]
    ended = replace(detail, state="aborted", ended_at=now)
    assert [card.state for card in strip(ended, now)] == ["complete", "stopped", "stopped"]
    assert strip(ended, now)[2].time == "Never opened."


def test_lip_errors_stand_before_and_after_and_a_frame_on_trial_says_nothing(world: World) -> None:
    rows = {row.segment: row for row in selectors_rollout.lip_rows(world.rollout)}
    assert set(rows) == {"base", "mandarin"}
    mandarin = rows["mandarin"]
    assert mandarin.before is not None
    assert mandarin.after is not None
    assert mandarin.before.lip_mm == pytest.approx(0.64)
    assert mandarin.after.lip_mm == pytest.approx(0.34)
    assert mandarin.mean_pose_mm == pytest.approx(1.24)
    committed = Frame.objects.filter(reported__release=world.fix.digest)
    assert mandarin.after.frames == committed.count()
    one = committed[0].reported
    one.state, one.target = "trial", BASE
    one.save()
    after = {row.segment: row for row in selectors_rollout.lip_rows(world.rollout)}["mandarin"].after
    assert after is not None
    assert after.frames == mandarin.after.frames - 1


def test_frames_without_a_power_meter_are_counted(world: World) -> None:
    assert selectors_rollout.frames_estimating_power(world.rollout) == 0
    for seq, frame in enumerate((world.failed, world.failed, world.frames[-1])):
        PowerSample.objects.create(
            frame=frame, outbox_id=uuid4(), seq=seq, at=NOW, received_at=NOW, window_s=60, total_w=4.8, estimated=True
        )
    assert selectors_rollout.frames_estimating_power(world.rollout) == 1


def test_the_trail_is_newest_first_and_tells_people_from_the_engine(world: World) -> None:
    entries = trail(rollout_detail(Rollout.objects.get()).events)
    assert [str(entry.word) for entry in entries] == ["Stage opened", "Stage complete", "Stage opened", "Started"]
    assert [entry.engine for entry in entries] == [True, True, True, False]
    assert entries[0].facts == ("Stage 2", "8 frames")


def test_the_trail_gives_an_events_figures_in_words() -> None:
    detail = {"stage": 1, "frames": 1200, "committed": 1199, "failed": 1, "accepted_failures": 2}
    (entry,) = trail([EventRow(at=NOW, actor="engine", kind="resumed", reason="", detail=detail)])
    assert entry.facts == ("Stage 1", "1,200 frames", "1,199 committed", "1 failed", "2 failures accepted")
