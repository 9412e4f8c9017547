"""What the evidence says, told on the rollout's page."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.test import Client
from django.utils import timezone, translation

from dashboards import bands, effects, kept_looks, verdict_page, words_verdict
from dashboards.bands import BandPoint, band_chart
from ota.domain.actions import OpenStage, as_detail
from ota.domain.analysis.policy import EVENTS, MEASURES
from ota.domain.analysis.verdict import Decision, Reason
from ota.domain.plan import POLICIES, GateKind
from ota.models import Rollout
from ota.selectors_looks import Standing, histories, verdict_of
from tests.dashboards.looks import add_look, add_looks, metric
from tests.dashboards.test_causes import chinese
from tests.dashboards.world import World

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with translation.override("en"):
        yield


def page(client: Client, world: World, language: str = "en") -> str:
    answer = client.get(f"/rollouts/{world.rollout.pk}/", headers={"accept-language": language})
    assert answer.status_code == 200
    return answer.content.decode()


def test_before_the_first_look_the_page_says_so(logged_in: Client, world: World) -> None:
    assert "Nothing has been looked at yet" in page(logged_in, world)


def test_not_enough_evidence_is_said_plainly_with_its_metrics_and_counts(logged_in: Client, world: World) -> None:
    add_looks(world.rollout, timezone.now())
    text = page(logged_in, world)
    assert "Hold: not enough evidence yet about Completion." in text
    assert "evidence of harm 1.35, 20 rolls it back" in text
    assert "412 of at least 100 playbacks of the release, 61 of at least 20 canaries" in text
    assert "not measured by any frame here: Pictures per second" in text
    assert "Better" in text, "the benefit in the segment the release aims at"


def test_guardrails_are_drawn_with_band_limit_and_stage_marks_and_can_be_read_as_a_table(
    logged_in: Client, world: World
) -> None:
    add_looks(world.rollout, timezone.now())
    text = page(logged_in, world)
    for name in ("completion", "power", "complaint"):
        drawing = text[text.index(f'aria-labelledby="guardrail-{name}-title') :]
        drawing = drawing[: drawing.index("</svg>")]
        assert 'class="band"' in drawing
        assert 'class="limit"' in drawing
        assert ">Stage 2</text>" in drawing
        assert f'id="table-guardrail-{name}"' in text
    assert "\u22123.0 points" in text, "the limit of completion is below"
    assert "\u00d74.00" in text
    assert "<h3>Latency</h3>" not in text, "nothing to draw; the table says that it has nothing to say yet"
    assert "Nothing to say yet" in text


def test_the_same_page_in_chinese(logged_in: Client, world: World) -> None:
    add_looks(world.rollout, timezone.now())
    text = page(logged_in, world, "zh-hans")
    assert "观望：关于完播率，证据尚不足。" in text
    assert "护栏指标" in text
    assert "Hold:" not in text


def test_an_engines_decision_keeps_its_evidence_within_the_trail(logged_in: Client, world: World) -> None:
    look = add_look(
        world.rollout,
        timezone.now(),
        [metric("completion", -0.001, log_e_noninferior=4.2, margin=0.03)],
        decision="promote",
        reason="harmless",
        about=[],
    )
    kept = {"id": look.pk, "stage": 2, "decision": "promote", "reason": "harmless", "metrics": []}
    world.rollout.events.create(
        actor="engine",
        kind="stage_opened",
        detail={"stage": 3, "action": as_detail(OpenStage(3, look.pk)), "look": kept | {"evidence": look.evidence}},
    )
    look.delete()
    text = page(logged_in, world)
    trail = text[text.index('id="trail"') :]
    assert "Promote: everything that the stage asks for is shown." in trail
    assert "\u22120.1 points" in trail
    assert "66.7" in trail, "e to the 4.2"


@pytest.mark.parametrize("look", [None, "x", {}, {"reason": "unheard_of"}, {"reason": ["harm"]}])
def test_a_kept_look_that_cannot_be_read_is_left_out(look: object) -> None:
    assert kept_looks.kept(look) is None


def test_a_kept_look_without_figures_still_says_its_sentence() -> None:
    found = kept_looks.kept({"reason": "harm", "metrics": ["power"], "evidence": {"metrics": [3, {"name": "power"}]}})
    assert found is not None
    assert found.sentence == "Roll back: harm is shown in Power."
    assert [row.effect for row in found.rows] == ["–"]


def test_a_paused_stage_strip_shows_gates_and_margins(logged_in: Client, world: World) -> None:
    from ota.domain.plan import by_evidence, kept

    Rollout.objects.filter(pk=world.rollout.pk).update(plan=kept(by_evidence("small-fleet")))
    world.rollout.stages.update(gate="evidence")
    text = page(logged_in, world)
    assert "The next one opens when the evidence shows no harm beyond the margins." in text
    assert "Completion: down to \u22125.0 points" in text
    assert "Power: up to +0.10 W" in text
    assert "Complaints: up to \u00d74.00" in text


def test_bands_never_leave_the_plot_and_early_wide_ones_do_not_flatten_the_rest() -> None:
    points = [
        BandPoint(NOW.replace(hour=hour), value, value - wide, value + wide, -3.0, f"at {hour}")
        for hour, value, wide in ((1, 40.0, 500.0), (5, -1.0, 4.0), (9, -0.5, 1.0))
    ]
    text = band_chart(
        chart_id="c",
        title="Completion",
        description="falls",
        points=points,
        neutral=0.0,
        legend=("effect", "band", "limit"),
        number=lambda value: f"{value:g}",
        day_label="{:%m-%d}".format,
    )
    (corners,) = re.findall(r'class="band" points="([^"]+)"', text)
    heights = [float(height) for height in re.findall(r",([\d.]+)", corners)]
    assert heights
    assert min(heights) >= 0
    ticks = [float(tick) for tick in re.findall(r'text-anchor="end">(-?[\d.]+)<', text)]
    assert max(ticks) < 20
    assert "<title>at 5</title>" in text
    assert (
        bands.band_chart(
            chart_id="c",
            title="",
            description="",
            points=[],
            neutral=0.0,
            legend=("", "", ""),
            number=str,
            day_label=str,
        )
        == ""
    )


def test_effects_are_written_in_their_own_unit() -> None:
    assert effects.effect("completion", -0.0123) == "\u22121.2 points"
    assert effects.effect("power", 0.1) == "+0.10 W"
    assert effects.effect("complaint", 2.5) == "\u00d72.50"
    assert effects.effect("latency", 0.0953) == "+10.0 %"
    assert effects.effect("completion", None) == "–"


def test_a_verdict_whose_arms_leak_says_how_far(world: World) -> None:
    add_look(world.rollout, NOW, [], reason="contaminated", about=[])
    found = verdict_of(world.rollout)
    assert found is not None
    assert found.exposure is not None
    leaking = replace(found, exposure=replace(found.exposure, control_share=0.21))
    said = verdict_page.headline(leaking)
    assert said.sentence == "Hold: controls play the release too, so there is nobody to compare with."
    assert any("21.0 % of the controls play it too" in fact for fact in said.facts)


def test_nothing_is_drawn_without_looks(world: World) -> None:
    assert verdict_page.pictures(histories(world.rollout), None, (), simulated=True) == []


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        (words_verdict.GUARDRAIL, [one.name for one in (*MEASURES, *EVENTS)]),
        (words_verdict.WHY, list(Reason)),
        (words_verdict.GATE, list(GateKind)),
        (words_verdict.POLICY, list(POLICIES)),
        (words_verdict.DECISION, list(Decision)),
        (words_verdict.STANDING, list(Standing)),
    ],
)
def test_every_name_of_the_analysis_has_words_in_both_languages(table: dict[str, object], keys: list[str]) -> None:
    for key in keys:
        known = table[key]
        word = getattr(known, "word", known)
        with translation.override("en"):
            assert str(word) != key
        with translation.override("zh-hans"):
            assert chinese(str(word))


def test_a_verdict_is_acknowledged_and_commented_on(logged_in: Client, world: World) -> None:
    look = add_looks(world.rollout, timezone.now())
    address = f"/rollouts/{world.rollout.pk}/"
    assert f'name="look" value="{look.pk}"' in page(logged_in, world)
    seen = {"kind": "acknowledge", "look": str(look.pk), "text": ""}
    assert logged_in.post(f"{address}comment/", seen).headers["Location"] == address
    said = {"kind": "comment", "look": str(look.pk), "text": "Chengdu is on holiday"}
    assert logged_in.post(f"{address}comment/", said).status_code == 302
    text = page(logged_in, world)
    trail = text[text.index('id="trail"') :]
    assert trail.index("Chengdu is on holiday") < trail.index("Verdict acknowledged"), "newest first"
    assert "Hold: not enough evidence yet about Completion." in trail
    assert Rollout.objects.get(pk=world.rollout.pk).revision == world.rollout.revision


def test_a_comment_that_cannot_be_kept_comes_back_with_its_text(logged_in: Client, world: World) -> None:
    for form in (
        {"kind": "comment", "text": "  "},
        {"kind": "comment", "text": "x" * 501},
        {"kind": "acknowledge", "look": "999999", "text": "kept"},
        {"kind": "acknowledge", "look": "x", "text": "kept"},
    ):
        answer = logged_in.post(f"/rollouts/{world.rollout.pk}/comment/", form)
        assert answer.status_code == 400
        assert f">{form['text'].strip()}</textarea>" in answer.content.decode()
    assert not world.rollout.events.filter(kind__in=("commented", "acknowledged")).exists()
