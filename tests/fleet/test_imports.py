"""Frames by CSV: every bad line is named, and all are taken in or none."""

from collections.abc import Iterator

import pytest

from fleet.models import AuditEntry, Claim, Frame, Household
from fleet.services import imports
from fleet.services.claims import redeem
from fleet.services.imports import TOLD, import_frames
from protocol.errors import Refused
from tests.fleet.births import claim_request, new_key
from tests.fleet.factories import make_frame

pytestmark = pytest.mark.django_db

HEADING = "frame_id,household,locale,hardware\n"


def test_frames_are_known_before_they_are_born() -> None:
    made = import_frames([HEADING, "wall-1,home-1,zh,rk3588\n", "wall-2,home-1,en-GB,rk3588s\n"], "rosa")
    assert [claim.frame_id for claim in made] == ["wall-1", "wall-2"]
    assert set(Frame.objects.values_list("id", "household_id", "locale", "hardware", "lifecycle")) == {
        ("wall-1", "home-1", "zh", "rk3588", "awaited"),
        ("wall-2", "home-1", "en-GB", "rk3588s", "awaited"),
    }
    born = redeem(claim_request(made[1].token, new_key()))
    assert (born.certificate.frame_id, born.locale) == ("wall-2", "en-GB")
    assert AuditEntry.objects.get(action="import_frames").subject == "2 frames"


def test_columns_may_stand_in_any_order_as_spreadsheets_write_them() -> None:
    lines = ["hardware,Locale,frame_id,household\r\n", '"rk3588",zh,wall-1,home-1\r\n', "\r\n", ",,,\r\n"]
    assert [claim.frame_id for claim in import_frames(lines, "rosa")] == ["wall-1"]


def test_every_bad_line_is_named_and_nothing_is_kept() -> None:
    make_frame("old-1")
    retired = make_frame("old-2")
    Frame.objects.filter(pk=retired.pk).update(lifecycle=Frame.Lifecycle.RETIRED)
    lines = [
        HEADING,
        "wall-1,home-1,zh,rk3588\n",
        "Wall 2,home-1,zh,rk3588\n",
        "wall-1,home-1,zh,rk3588\n",
        "wall-3,home 1,zh,rk3588\n",
        "wall-4,home-1,mandarin!,rk3588\n",
        "wall-5,home-1,zh,\n",
        "wall-6,home-1,zh\n",
        "bridge,home-1,zh,rk3588\n",
        "old-1,home-1,zh,rk3588\n",
        "old-2,home-1,zh,rk3588\n",
        "wall-9,home-9\0,zh,rk3588\n",
    ]
    with pytest.raises(Refused) as refused:
        import_frames(lines, "rosa")
    said = refused.value.detail
    for number, word in enumerate(
        ("'Wall 2'", "twice", "household", "locale", "hardware", "columns", "'bridge'", "in service", "retired"),
        start=3,
    ):
        (part,) = [part for part in said.split(";") if f"line {number}:" in part]
        assert word in part
    assert "line 2:" not in said
    assert not Claim.objects.exists()
    assert not Frame.objects.filter(pk__startswith="wall").exists()
    assert not Household.objects.filter(pk="home-1").exists()


def test_of_very_many_bad_lines_the_first_are_named_and_the_others_counted() -> None:
    with pytest.raises(Refused) as refused:
        import_frames([HEADING, *["!,home,zh,rk3588\n"] * 500], "rosa")
    assert refused.value.detail.count("line ") == TOLD
    assert refused.value.detail.endswith(f"and {500 - TOLD} more.")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "There is no frame in this file"),
        ([HEADING], "There is no frame in this file"),
        (["frame_id,home\n", "a,b\n"], "names the columns"),
        ([HEADING, '"wall-1,home-1,zh,rk3588\n'], "is no CSV"),
        ([HEADING, "x" * 5_000], "more than 1000 characters"),
    ],
)
def test_what_is_no_list_of_frames_is_refused_with_one_sentence(lines: list[str], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        import_frames(lines, "rosa")


def test_an_answer_that_was_lost_is_asked_for_again_until_a_frame_is_born() -> None:
    lines = [HEADING, "wall-1,home-1,zh,rk3588\n"]
    (lost,) = import_frames(lines, "rosa")
    (again,) = import_frames(lines, "rosa")
    with pytest.raises(Refused, match="replaced by a newer one"):
        redeem(claim_request(lost.token, new_key()))
    redeem(claim_request(again.token, new_key()))
    with pytest.raises(Refused, match="line 2: wall-1 is in service already"):
        import_frames(lines, "rosa")


def test_too_many_frames_are_refused_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "MAX_LINES", 3_000)
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        yield HEADING
        while True:
            read += 1
            yield f"wall-{read},home,zh,rk3588\n"

    with pytest.raises(Refused, match="at most 3000 frames at once: split the file"):
        import_frames(endless(), "rosa")
    assert read == 3_001
    assert not Frame.objects.exists()
