"""What a frame measured in its trial, and how far probation has come, on the pages that show it."""

import pytest
from django.test import Client
from django.utils.translation import override

from dashboards import selectors_rollout, trial
from dashboards.stage_strip import strip
from fleet.models import Frame
from ota.selectors import rollout_detail
from tests.dashboards.world import BASE, World

pytestmark = pytest.mark.django_db

ON_PROBATION = {
    "step_p99_ms": 9.54,
    "power_w": 4.8,
    "power_estimated": 1.0,
    "playbacks": 1.0,
    "playbacks_needed": 3.0,
    "healthy_h": 2.04,
    "healthy_h_needed": 24.0,
    "npu_load": 0.5,
}


def test_figures_have_words_and_units_and_an_estimate_says_that_it_is_one() -> None:
    assert [(str(figure.name), figure.text) for figure in trial.figures(ON_PROBATION)] == [
        ("Step, 99th percentile", "9.5 ms"),
        ("Power", "4.80 W (estimated)"),
        ("Playbacks on probation", "1"),
        ("Healthy hours on probation", "2.0"),
        ("npu_load", "0.50"),
    ]
    assert trial.figures({}) == []
    assert [figure.text for figure in trial.figures({"power_w": 4.8, "power_estimated": 0.0})] == ["4.80 W"]


def test_probation_says_how_far_it_has_come_while_it_lasts() -> None:
    said = "On probation: 1 of 3 playbacks, 2.0 of 24.0 healthy hours."
    assert trial.probation("trial", ON_PROBATION).startswith(said)
    assert trial.probation("committed", ON_PROBATION) == ""
    assert trial.probation("trial", {"step_p99_ms": 9.54}) == "", "the golden clips are being played"
    with override("zh-hans"):
        assert "播放 1 次（需 3 次）" in trial.probation("trial", ON_PROBATION)


def on_probation(world: World) -> Frame:
    frame = Frame.objects.filter(reported__release=world.fix.digest).order_by("id")[0]
    report = frame.reported
    report.state, report.target, report.figures = "trial", report.release, ON_PROBATION
    report.save()
    return frame


def test_the_frames_page_shows_figures_and_probation(logged_in: Client, world: World) -> None:
    frame = on_probation(world)
    text = logged_in.get(f"/frames/{frame.pk}/").content.decode()
    assert "On probation: 1 of 3 playbacks" in text
    assert "9.5 ms" in text
    assert "4.80 W (estimated)" in text
    other = Frame.objects.filter(reported__release=BASE)[0]
    assert "Figures of its last trial" not in logged_in.get(f"/frames/{other.pk}/").content.decode()


def test_a_frame_on_probation_measured_the_release_that_it_plays(world: World) -> None:
    def frames() -> int:
        row = next(row for row in selectors_rollout.lip_rows(world.rollout) if row.segment == "mandarin")
        assert row.after is not None
        return row.after.frames

    before = frames()
    on_probation(world)
    assert frames() == before


def test_an_open_stage_says_why_it_waits(world: World) -> None:
    stage = world.rollout.deployments.filter(stage=2)
    first, *others = stage.order_by("frame_id")
    stage.update(state="committed")
    detail = rollout_detail(world.rollout)
    now = detail.created_at
    assert [card.waits for card in strip(detail, now)] == ["", "", ""]
    stage.filter(pk=first.pk).update(state="trial")
    (waits,) = [card.waits for card in strip(rollout_detail(world.rollout), now) if card.waits]
    assert waits.startswith("1 frame is in trial: it commits")
    stage.filter(pk=others[0].pk).update(state="trial")
    (waits,) = [card.waits for card in strip(rollout_detail(world.rollout), now) if card.waits]
    assert waits.startswith("2 frames are in trial: they commit")


def test_a_download_says_how_much_is_there_and_what_it_waits_for(logged_in: Client, world: World) -> None:
    frame = Frame.objects.filter(reported__isnull=False).order_by("id")[0]
    report = frame.reported
    figures = {"fetched_bytes": 120_400_000.0, "total_bytes": 692_000_000.0, "waiting_s": 30_000.0}
    report.state, report.figures = "downloading", figures
    report.save()
    text = logged_in.get(f"/frames/{frame.pk}/").content.decode()
    assert "Downloading: 120.4 of 692.0 MB. It waits 8 h 20 min for its quiet hours to end" in text
    assert "fetched_bytes" not in text
    assert trial.progress("downloading", {"fetched_bytes": 1e6, "total_bytes": 2e6}) == "Downloading: 1.0 of 2.0 MB."
    with override("zh-hans"):
        assert "还要等待" in trial.progress("downloading", figures)
