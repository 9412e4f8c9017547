"""Days before a demonstration: taken in for simulated frames alone, all or nothing, and only once."""

import io
from datetime import date
from pathlib import Path

import msgspec
import pytest
from django.core.management import CommandError, call_command

from fleet.models import ContextDay, Frame, FrameDay, Household
from fleet.services.history import load_history
from protocol.errors import Refused
from protocol.history import Context, Day, Head

pytestmark = pytest.mark.django_db

RELEASE = "ab" * 32
HEAD = Head(release=RELEASE, seed=1, frames=2, first_day=20_000, days=3)
MOOD = Context(words={"mood": "good"}, playbacks=1, completed=1, complaints=0)
DAYS = [
    Day(frame="zh-0001", day=20_000, playbacks=5, completed=4, complaints=1, power_sum_w=24.5, power_samples=5),
    Day(
        frame="zh-0002",
        day=20_002,
        playbacks=3,
        completed=2,
        contexts=(Context(words={"pose": "turned", "loudness": "quiet"}, playbacks=3, completed=2, complaints=0),),
    ),
]


@pytest.fixture(autouse=True)
def frames() -> None:
    for name in ("zh-0001", "zh-0002"):
        Household.objects.create(pk=name)
        Frame.objects.create(
            pk=name, household_id=name, hardware="rk3588", simulated=True, enrolled_at="2026-01-01 00:00Z"
        )


def write(path: Path, *lines: msgspec.Struct | bytes) -> Path:
    path.write_bytes(b"".join((x if isinstance(x, bytes) else msgspec.json.encode(x)) + b"\n" for x in lines))
    return path


def test_simulated_frames_have_their_days_and_contexts(tmp_path: Path) -> None:
    assert load_history(write(tmp_path / "h", HEAD, *DAYS), "local") == 2
    first = FrameDay.objects.get(frame="zh-0001")
    assert (first.day, first.release) == (date(2024, 10, 4), RELEASE)
    assert (first.playbacks, first.completed, first.complaints, first.power_sum_w) == (5, 4, 1, 24.5)
    assert (first.latency_samples, first.fps_samples) == (0, 0), "nobody measured a film's speed"
    assert ContextDay.objects.get(frame="zh-0002").context == "loudness=quiet pose=turned"


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "h", HEAD, *DAYS)
    load_history(path, "local")
    assert load_history(path, "local") == 0
    assert FrameDay.objects.get(frame="zh-0001").playbacks == 5


def test_a_real_frame_takes_no_history_and_nothing_is_kept(tmp_path: Path) -> None:
    Frame.objects.filter(pk="zh-0002").update(simulated=False)
    with pytest.raises(Refused) as refused:
        load_history(write(tmp_path / "h", HEAD, *DAYS), "local")
    assert refused.value.detail == ("zh-0002 is not enrolled as a simulated frame: only such frames take a history in.")
    assert not FrameDay.objects.exists()


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([b"{}"], "does not begin as"),
        ([HEAD, b"x"], "Line 2 of the history cannot be read"),
        ([HEAD, Day(frame="zh-0001", day=20_003)], "Line 2 of the history is about a day"),
        ([HEAD, Day(frame="gone-0001", day=20_000)], "gone-0001 is not enrolled as a simulated frame"),
        ([msgspec.structs.replace(HEAD, first_day=900_000)], "which is not over yet"),
        (
            [HEAD, Day(frame="zh-0001", day=20_000, contexts=(MOOD,))],
            "context mood=good, which nobody knows",
        ),
    ],
)
def test_an_odd_file_is_refused_in_one_sentence(
    tmp_path: Path, lines: list[msgspec.Struct | bytes], sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        load_history(write(tmp_path / "h", *lines), "local")
    assert sentence in refused.value.detail
    assert not FrameDay.objects.exists()


def test_the_command_says_what_it_did_and_what_is_wrong(tmp_path: Path) -> None:
    out = io.StringIO()
    call_command("load_history", str(write(tmp_path / "h", HEAD, *DAYS)), stdout=out)
    assert out.getvalue() == "New frame-days of simulated people: 2.\n"
    with pytest.raises(CommandError, match="cannot be read: No such file"):
        call_command("load_history", str(tmp_path / "none"))
