"""A frame fetches within its hours and its daily budget, whatever its clock does and however often it restarts."""

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.transfer.meter import TELL_ABOVE, DownloadMeter, Progress
from device_agent.transfer.policy import may_fetch
from device_agent.transfer.usage import SAVE_EVERY, FileUsage, MemoryUsage
from protocol.messages import TransferPolicy

CHUNK = 65_536
NOON = dt.datetime(2026, 3, 5, 12, 0, 0)
DAYTIME = TransferPolicy(quiet_from=8 * 60, quiet_to=22 * 60)
NIGHT = TransferPolicy(quiet_from=22 * 60, quiet_to=6 * 60)
BUDGET = TransferPolicy(daily_bytes=1_000_000)


def at(hour: int, minute: int = 0, second: int = 0) -> dt.datetime:
    return NOON.replace(hour=hour, minute=minute, second=second)


@pytest.mark.parametrize(
    ("policy", "local", "seconds"),
    [
        (DAYTIME, at(7, 59, 59), 0),
        (DAYTIME, at(8), 14 * 3_600),
        (DAYTIME, at(21, 59, 30), 30),
        (DAYTIME, at(22), 0),
        (NIGHT, at(22), 8 * 3_600),
        (NIGHT, at(23, 30), 6.5 * 3_600),
        (NIGHT, at(0, 30), 5.5 * 3_600),
        (NIGHT, at(6), 0),
        (NIGHT, at(12), 0),
        (TransferPolicy(quiet_from=600, quiet_to=600), at(10), 0),
        (TransferPolicy(quiet_from=600), at(10), 0),
        (TransferPolicy(quiet_from=600, quiet_to=0), at(11), 13 * 3_600),
    ],
)
def test_nothing_is_fetched_in_quiet_hours(policy: TransferPolicy, local: dt.datetime, seconds: float) -> None:
    assert may_fetch(policy, local, 0, CHUNK) == seconds


@pytest.mark.parametrize(
    ("used", "seconds"), [(0, 0), (1_000_000 - CHUNK, 0), (1_000_000 - CHUNK + 1, 12 * 3_600), (5_000_000, 12 * 3_600)]
)
def test_the_budget_of_the_day_is_not_exceeded(used: int, seconds: float) -> None:
    assert may_fetch(BUDGET, NOON, used, CHUNK) == seconds


def test_a_budget_below_one_chunk_still_lets_one_through_each_day() -> None:
    assert may_fetch(TransferPolicy(daily_bytes=1), NOON, 0, CHUNK) == 0


@given(st.integers(0, 1_439), st.integers(0, 1_439), st.datetimes(max_value=dt.datetime(9999, 12, 30)))
def test_when_the_wait_is_over_the_quiet_hours_are(start: int, end: int, local: dt.datetime) -> None:
    policy = TransferPolicy(quiet_from=start, quiet_to=end)
    wait = may_fetch(policy, local, 0, CHUNK)
    assert 0 <= wait <= 86_400
    assert may_fetch(policy, local + dt.timedelta(seconds=wait), 0, CHUNK) == 0


def test_what_was_used_survives_restarts_but_for_the_last_megabyte(tmp_path: Path) -> None:
    path, day = tmp_path / "usage.json", NOON.date()
    usage = FileUsage(path)
    for _ in range(40):
        usage.add(day, CHUNK)
    assert 40 * CHUNK - SAVE_EVERY < FileUsage(path).today(day) <= 40 * CHUNK
    usage.save()
    assert FileUsage(path).today(day) == 40 * CHUNK


def test_a_new_day_begins_with_nothing_and_setting_the_clock_back_does_not(tmp_path: Path) -> None:
    usage, day = MemoryUsage(), NOON.date()
    usage.add(day, 7)
    assert usage.today(day - dt.timedelta(days=1)) == 7
    assert usage.today(day) == 0
    usage.add(dt.date(2099, 1, 1), 5)  # a clock that was wrong for a while starves nobody afterwards
    assert usage.today(day) == 5
    assert usage.today(day + dt.timedelta(days=1)) == 0


@pytest.mark.parametrize("content", [b"", b"{", b'{"day": "x", "bytes": 1}', b'{"day": "2026-03-05", "bytes": -1}'])
def test_a_damaged_file_keeps_no_frame_from_downloading(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "usage.json"
    path.write_bytes(content)
    assert FileUsage(path).today(NOON.date()) == 0


def test_progress_is_told_at_each_tenth_and_when_a_wait_begins_and_ends() -> None:
    told: list[dict[str, float]] = []
    progress = Progress(lambda: told.append(progress.figures))
    clock = [at(7)]
    meter = DownloadMeter(DAYTIME, MemoryUsage(), progress, lambda: clock[0])
    total = 2 * TELL_ABOVE
    progress.began(total, held=0)
    for _ in range(total // CHUNK):
        meter.took(CHUNK)
    assert len(told) == 11
    assert told[-1] == {"fetched_bytes": total, "total_bytes": total}
    clock[0] = at(9)
    for _ in range(3):
        meter.waits(meter.wait(CHUNK))
    meter.waits(0)
    assert [figures.get("waiting_s") for figures in told[11:]] == [13 * 3_600, None]
    progress.ended()
    assert progress.figures == {}


def test_a_small_download_is_told_only_if_it_waits() -> None:
    told: list[int] = []
    progress = Progress(lambda: told.append(1))
    progress.began(190_000, held=0)
    progress.took(190_000)
    assert not told
