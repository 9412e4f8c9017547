import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.axes import Mark, nice_ticks, text_width
from dashboards.charts import Bar, Part, Point, Series, bar_chart, line_chart, stacked_bar

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert(1)</script>\"'&]]>"


def points(*values: float, first: int = 1) -> tuple[Point, ...]:
    return tuple(Point(date(2026, 11, first + n), value, f"label {value}") for n, value in enumerate(values))


def draw(
    *series: Series,
    marks: tuple[Mark, ...] = (),
    from_zero: bool = False,
    title: str = "Completion",
    day_label: Callable[[date], str] = "{:%m-%d}".format,
    note: str = "",
) -> str:
    return line_chart(
        chart_id="c",
        title=title,
        description="Canary rises.",
        series=series,
        number=lambda value: f"{value:g}",
        day_label=day_label,
        marks=marks,
        from_zero=from_zero,
        note=note,
    )


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - our own text


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_every_point_is_drawn_where_its_value_is() -> None:
    root = parse(draw(Series("Canary", 0, points(10, 20, 30))))
    hits = [element for element in root.iter(f"{SVG}circle") if element.get("class") == "hit"]
    heights = [float(hit.get("cy", "nan")) for hit in hits]
    across = [float(hit.get("cx", "nan")) for hit in hits]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.11)
    assert heights == sorted(heights, reverse=True)
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.11)
    assert [element.text for element in root.iter(f"{SVG}title")][1:] == ["label 10", "label 20", "label 30"]


def test_legend_names_every_line_and_title_speaks_to_screen_readers() -> None:
    root = parse(draw(Series("Canary", 0, points(1, 2)), Series("对照组", 1, points(2, 1))))
    assert {"Canary", "对照组"} <= set(texts(root))
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "c-title c-desc"
    assert root.findtext(f"{SVG}title") == "Completion"
    assert root.findtext(f"{SVG}desc") == "Canary rises."


def test_hostile_names_stay_text() -> None:
    bad = Series(HOSTILE, 0, (Point(date(2026, 11, 1), 1.0, HOSTILE),))
    svg = draw(bad, marks=(Mark(datetime(2026, 11, 1, 12, tzinfo=UTC), HOSTILE),), title=HOSTILE)
    assert "<script" not in svg
    assert HOSTILE in texts(parse(svg))
    assert parse(svg).findtext(f"{SVG}title") == HOSTILE


def test_a_day_without_playbacks_is_a_gap_not_a_line() -> None:
    split = points(1, 2) + points(3, 4, first=5)
    path = next(element for element in parse(draw(Series("Canary", 0, split))).iter(f"{SVG}path"))
    assert re.findall(r"[ML]", path.get("d", "")) == ["M", "L", "M", "L"]


def test_a_thin_day_is_hollow() -> None:
    svg = draw(Series("Canary", 0, (Point(date(2026, 11, 1), 1.0, "n = 2", thin=True), *points(2, first=2))))
    assert svg.count('class="dot thin"') == 1


def test_a_stage_opening_stands_between_its_days_and_one_outside_is_left_out() -> None:
    series = Series("Canary", 0, points(1, 2, 3))
    inside = Mark(datetime(2026, 11, 2, 0, tzinfo=UTC), "Stage 1")
    outside = Mark(datetime(2026, 12, 24, tzinfo=UTC), "Stage 2")
    root = parse(draw(series, marks=(inside, outside)))
    assert "Stage 1" in texts(root)
    assert "Stage 2" not in texts(root)
    mark = next(group for group in root.iter(f"{SVG}g") if group.get("class") == "mark")
    line = mark.find(f"{SVG}line")
    hits = [float(e.get("cx", "nan")) for e in root.iter(f"{SVG}circle") if e.get("class") == "hit"]
    assert line is not None
    assert hits[0] < float(line.get("x1", "nan")) < hits[1]


def test_marks_close_together_get_rows_of_their_own() -> None:
    marks = tuple(Mark(datetime(2026, 11, 1, hour, tzinfo=UTC), f"Stage {hour}") for hour in (1, 2, 3))
    root = parse(draw(Series("Canary", 0, points(1, 2)), marks=marks))
    groups = [group for group in root.iter(f"{SVG}g") if group.get("class") == "mark"]
    rows = {group.find(f"{SVG}text").get("y") for group in groups}  # type: ignore[union-attr]
    assert len(rows) == 3


def test_nothing_measured_draws_nothing() -> None:
    assert draw(Series("Canary", 0, ())) == ""
    assert bar_chart(chart_id="b", title="", description="", bars=(), longest=1, limit=None) == ""


def test_all_zero_complaints_still_have_an_axis() -> None:
    root = parse(draw(Series("Canary", 0, points(0, 0)), from_zero=True))
    assert "0" in texts(root)


@given(
    st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=28),
    st.booleans(),
)
def test_any_values_give_well_formed_pictures_with_finite_places(values: list[float], from_zero: bool) -> None:
    root = parse(draw(Series("Canary", 0, points(*values)), from_zero=from_zero))
    bottom = float(root.get("viewBox", "").split()[3])
    hits = [element for element in root.iter(f"{SVG}circle") if element.get("class") == "hit"]
    assert len(hits) == len(values)
    assert all(0 <= float(hit.get("cy", "nan")) <= bottom for hit in hits)


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_ticks_span_the_values(low: float, width: float) -> None:
    ticks = nice_ticks(low, low + width)
    nearly = 1e-6 * max(1, abs(low), width)
    assert ticks[0] <= low + nearly
    assert ticks[-1] >= low + width - nearly
    assert 2 <= len(ticks) <= 12


def test_an_axis_without_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        nice_ticks(float("nan"), 1)


def test_bar_parts_are_as_long_as_their_counts_and_none_vanishes() -> None:
    root = parse(
        stacked_bar(label="Stage 1", parts=[Part("good", 997, "a"), Part("bad", 1, "b"), Part("lost", 0, "c")])
    )
    rects = {e.get("class"): float(e.get("width", "nan")) for e in root.iter(f"{SVG}rect")}
    assert set(rects) == {"part-empty", "part-good", "part-bad"}
    assert rects["part-bad"] >= 3
    assert rects["part-good"] > 200
    assert root.get("aria-label") == "Stage 1"


def test_lying_bars_share_a_scale_and_show_the_limit() -> None:
    bars = [Bar("before", "Before", 0.64, "0.64 mm"), Bar("after", "After", 0.32, "0.32 mm")]
    svg = bar_chart(chart_id="b", title="t", description="d", bars=bars, longest=1.28, limit=(0.8, "limit 0.80 mm"))
    root = parse(svg)
    before, after = [float(e.get("width", "nan")) for e in root.iter(f"{SVG}rect")]
    assert before == pytest.approx(2 * after, rel=0.01)
    assert {"0.64 mm", "0.32 mm", "limit 0.80 mm", "Before"} <= set(texts(root))


def test_chinese_is_wider_than_latin() -> None:
    assert text_width("对照") > text_width("ab")


def test_an_opening_without_a_label_is_a_line_alone() -> None:
    noon = datetime(2026, 11, 2, 12, tzinfo=UTC)
    root = parse(draw(Series("Canary", 0, points(1, 2, 3)), marks=(Mark(noon, "Stages 1–3"), Mark(noon, ""))))
    marks = [element for element in root.iter(f"{SVG}g") if element.get("class") == "mark"]
    assert [[child.tag.removeprefix(SVG) for child in mark] for mark in marks] == [["line"], ["line", "text"]]


def test_a_note_stands_below_the_days() -> None:
    line = Series("Canary", 0, points(1, 2, 3))
    plain, noted = parse(draw(line)), parse(draw(line, note="whose days they are"))
    assert "whose days they are" in texts(noted)
    assert float(noted.get("viewBox", "").split()[3]) > float(plain.get("viewBox", "").split()[3])


@pytest.mark.parametrize("label", ["Nov 1", "11月11日", "a very long name of a day"])
def test_days_below_the_axis_never_touch(label: str) -> None:
    root = parse(draw(Series("Canary", 0, points(*range(14))), day_label=lambda _day: label))
    places = [float(text.get("x", "nan")) for text in root.iter(f"{SVG}text") if text.text == label]
    assert places
    assert all(after - before > text_width(label, 11) for before, after in pairwise(places))
