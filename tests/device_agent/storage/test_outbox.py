"""Nothing measured is lost silently: cuts, torn lines, full disks, and numbers that never come twice."""

import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from device_agent.power import PowerFigures
from device_agent.storage.disk import using
from device_agent.storage.outbox import FileOutbox, MemoryOutbox
from device_agent.storage.segments import BATCH_BYTES, pack
from device_agent.telemetry import health, power_sample
from protocol.codec import encode
from protocol.limits import MAX_EVENTS_PER_BATCH
from protocol.messages import AnyEvent, HealthEvent, TelemetryBatch
from tests.device_agent.powercut.model import ModelDisk

SMALL = 1024


def note(text: str = "something happened") -> HealthEvent:
    return health("test", text, at=1, release=None)


def sample() -> AnyEvent:
    return power_sample(PowerFigures(window_s=5.0, total_w=4.8, estimated=True), at=1, release=None)


def numbers(outbox: FileOutbox | MemoryOutbox) -> list[int]:
    return [event.seq for event in outbox.peek(10_000)]


def drained(outbox: FileOutbox) -> list[AnyEvent]:
    """Everything in the outbox, the way a session takes it."""
    events: list[AnyEvent] = []
    while batch := outbox.peek(MAX_EVENTS_PER_BATCH):
        events += batch
        outbox.discard(batch[-1].seq)
    return events


def test_events_come_out_in_order_until_they_are_committed(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    assert [outbox.append(note(str(number))) for number in range(5)] == [1, 2, 3, 4, 5]
    assert numbers(outbox) == [1, 2, 3, 4, 5]
    outbox.discard(3)
    assert numbers(outbox) == [4, 5]
    assert outbox.waiting == 2
    outbox.discard(99)
    assert numbers(outbox) == []
    assert outbox.append(note()) == 6


def test_a_killed_agent_finds_its_events_again(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    for number in range(5):
        outbox.append(note(str(number)))
    again = FileOutbox(tmp_path)  # without close: the process was killed
    assert again.outbox_id == outbox.outbox_id
    assert [event.detail for event in again.peek(10) if isinstance(event, HealthEvent)] == list("01234")
    assert again.append(note()) == 6


def test_a_torn_last_line_is_dropped_and_its_number_never_given_again(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    for number in range(3):
        outbox.append(note(str(number)))
    (segment,) = tmp_path.glob("*.log")
    whole, state = segment.read_bytes(), (tmp_path / "state.json").read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        segment.write_bytes(whole[:-cut])
        again = FileOutbox(tmp_path)
        assert numbers(again) == [1, 2]
        torn = cut < len(whole.splitlines()[-1])
        assert again.append(note("new")) > (3 if torn else 2)
        assert numbers(FileOutbox(tmp_path))[:2] == [1, 2]
        segment.write_bytes(whole)
        (tmp_path / "state.json").write_bytes(state)


def test_a_mended_file_that_is_destroyed_again_gives_no_number_twice(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    for number in range(5):
        outbox.append(note(str(number)))
    outbox.close()
    (segment,) = tmp_path.glob("*.log")
    segment.write_bytes(b"\xff\n" * (segment.stat().st_size // 2))
    again = FileOutbox(tmp_path)
    (sent,) = numbers(again)
    assert sent > 5, "the gap"
    again.append(note())  # into the same file, whose name still says 1
    segment.write_bytes(bytes(segment.stat().st_size))
    assert FileOutbox(tmp_path).append(note()) > sent


def test_a_damaged_line_is_told_and_the_others_are_kept(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    for number in range(3):
        outbox.append(note(str(number)))
    (segment,) = tmp_path.glob("*.log")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    again = FileOutbox(tmp_path)
    events = again.peek(10)
    assert [event.seq for event in events] == [1, 3, 4]
    assert isinstance(events[-1], HealthEvent)
    assert (events[-1].kind, events[-1].figures) == ("outbox_gap", {"damaged": 1.0})
    assert numbers(FileOutbox(tmp_path)) == [1, 3, 4], "a gap is told once"


@pytest.mark.parametrize("torn", [True, False], ids=["a torn end", "a damaged line"])
def test_a_full_disk_keeps_no_damaged_outbox_from_starting(torn: bool) -> None:
    disk, folder = ModelDisk(), Path("/frame/outbox")
    with using(disk):
        outbox = FileOutbox(folder)
        for number in range(3):
            outbox.append(note(str(number)))
        outbox.flush()
        (segment,) = (folder / name for name in disk.names(folder) if name.endswith(".log"))
        whole = disk.content(segment)
        assert whole is not None
        middle = len(whole) // 2
        disk.put(segment, whole[:-5] if torn else whole[:middle] + b"\0" + whole[middle + 1 :])
        left = [1, 2] if torn else [1, 3]

        disk.capacity = 0
        full = FileOutbox(folder)
        assert numbers(full) == left
        with pytest.raises(OSError, match="full"):
            full.append(note("no room"))
        assert numbers(FileOutbox(folder)) == left

        disk.capacity = 1 << 40
        assert full.append(note("room")) > 3, "numbers that may have stood there are not given again"
        again = FileOutbox(folder)
        found = drained(again)
        assert [event.seq for event in found][:2] == left
        assert [event.kind for event in found[2:] if isinstance(event, HealthEvent)] == (
            ["test"] if torn else ["test", "outbox_gap"]
        ), "what is damaged is told once it can be mended"
        assert FileOutbox(folder).append(note()) > found[-1].seq


def test_a_batch_fits_into_one_message(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    for _ in range(300):
        outbox.append(note("长" * 400))
    batch = outbox.peek(MAX_EVENTS_PER_BATCH)
    assert 1 < len(batch) < MAX_EVENTS_PER_BATCH
    message = encode(TelemetryBatch(frame_id="frame-1", outbox_id=outbox.outbox_id, events=batch))
    assert len(message) <= BATCH_BYTES + 2_048
    assert [event.seq for event in drained(outbox)] == list(range(1, 301))


def test_an_event_that_fits_into_no_message_is_refused(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    event = msgspec.structs.replace(note(), figures={"x" * 9_000: 1.0})
    with pytest.raises(ValueError, match="exceeds"):
        outbox.append(event)
    assert outbox.append(note()) == 1


def test_when_full_the_oldest_power_samples_go_first_and_the_gap_is_counted(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path, max_bytes=16 * SMALL, segment_bytes=SMALL)
    kept: list[int] = []
    gaps: list[HealthEvent] = []
    while not gaps and len(kept) < 1_000:
        outbox.append(sample())
        kept.append(outbox.append(note()))
        gaps = [event for event in all_events(tmp_path) if isinstance(event, HealthEvent) and event.figures]
    (gap,) = gaps
    assert gap.figures["power"] > 0
    assert gap.figures["other"] == 0
    left = {event.seq for event in all_events(tmp_path)}
    assert set(kept) <= left, "nothing but power samples went"
    assert total(tmp_path) <= 16 * SMALL


def all_events(folder: Path) -> list[AnyEvent]:
    """What a copy of the folder gives."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        return drained(FileOutbox(Path(copy)))


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.log"))


def test_when_nothing_but_the_important_is_left_the_oldest_goes(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path, max_bytes=8 * SMALL, segment_bytes=SMALL)
    for number in range(200):
        outbox.append(note(str(number)))
    events = all_events(tmp_path)
    lost = sum(int(event.figures["other"]) for event in events if isinstance(event, HealthEvent) and event.figures)
    notes = [event for event in events if isinstance(event, HealthEvent) and event.kind == "test"]
    assert notes[-1].detail == "199"
    gone = [event for event in events if isinstance(event, HealthEvent) and event.kind == "outbox_gap"]
    assert gone
    assert len(notes) + lost == 200, "a gap that goes itself is added to the next one"
    assert total(tmp_path) <= 8 * SMALL


def test_the_number_of_events_is_bounded_too(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path, max_events=50, segment_bytes=SMALL)
    for _ in range(500):
        outbox.append(sample())
        assert outbox.waiting <= 51


def test_dropping_never_gives_a_number_twice(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path, max_bytes=4 * SMALL, segment_bytes=SMALL)
    seen = []
    for _ in range(200):
        seen.append(outbox.append(sample()))
        outbox = FileOutbox(tmp_path, max_bytes=4 * SMALL, segment_bytes=SMALL)
    assert len(set(seen)) == len(seen)


def test_a_cut_between_dropping_and_telling_gives_no_number_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    outbox = FileOutbox(tmp_path, max_events=5)
    monkeypatch.setattr(outbox, "_record_gap", power_cut)
    handed_out = [outbox.append(sample()) for _ in range(5)]
    with pytest.raises(KeyboardInterrupt):
        outbox.append(sample())
    again = FileOutbox(tmp_path)
    assert again.peek(1) == []
    assert again.append(note()) > handed_out[-1]


def test_a_lost_state_file_means_a_new_outbox_id(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    outbox.append(note())
    (tmp_path / "state.json").write_bytes(b"{")
    again = FileOutbox(tmp_path)
    assert again.outbox_id != outbox.outbox_id
    assert numbers(again) == [1]


def test_an_event_nobody_can_read_any_more_does_not_stop_the_others(tmp_path: Path) -> None:
    FileOutbox(tmp_path).append(note())
    (tmp_path / f"{2:016d}.log").write_bytes(pack(2, b'{"type":"of the future","seq":2}'))
    (tmp_path / f"{3:016d}.log").write_bytes(pack(3, msgspec.json.encode(msgspec.structs.replace(note(), seq=3))))
    assert [event.seq for event in drained(FileOutbox(tmp_path))] == [1, 3]


def test_committed_segments_are_deleted_and_the_watermark_survives_a_close(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path, segment_bytes=SMALL)
    for _ in range(100):
        outbox.append(note())
    assert len(list(tmp_path.glob("*.log"))) > 5
    drained(outbox)
    assert len(list(tmp_path.glob("*.log"))) == 1
    outbox.close()
    again = FileOutbox(tmp_path, segment_bytes=SMALL)
    assert again.peek(1) == []
    assert again.append(note()) == 101


def test_the_outbox_in_memory_is_bounded_and_counts_what_it_lost() -> None:
    outbox = MemoryOutbox(max_events=10)
    for _ in range(15):
        outbox.append(note())
    assert numbers(outbox) == list(range(6, 16))
    assert outbox.lost == 5
    outbox.discard(10)
    assert numbers(outbox) == list(range(11, 16))


class Outboxes(RuleBasedStateMachine):
    """Against a model: a list of what was appended, and how much of it is committed. The agent may be killed at any
    time, with or without a torn last line that was never handed out."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-"))
        self.outbox = FileOutbox(self.folder, segment_bytes=SMALL)
        self.model: dict[int, str] = {}
        self.committed = 0
        self.handed_out = 0

    @rule(power=st.booleans(), text=st.text(max_size=200))
    def append(self, power: bool, text: str) -> None:
        event: AnyEvent = sample() if power else note(text)
        seq = self.outbox.append(event)
        assert seq > max(self.model, default=self.committed)
        self.model[seq] = "" if power else note(text).detail

    @rule(limit=st.integers(1, 50))
    def peek(self, limit: int) -> None:
        events = self.outbox.peek(limit)
        expected = [seq for seq in sorted(self.model) if seq > self.committed]
        got = [event.seq for event in events]
        assert got == expected[: len(got)]
        assert bool(got) == bool(expected)
        for event in events:
            assert self.model[event.seq] == (event.detail if isinstance(event, HealthEvent) else "")
        self.handed_out = max([self.handed_out, *got])

    @rule(share=st.floats(0, 1))
    def commit(self, share: float) -> None:
        through = self.committed + int(share * max(0, self.handed_out - self.committed))
        self.outbox.discard(through)
        self.committed = max(self.committed, through)

    @rule()
    def killed(self) -> None:
        self.outbox = FileOutbox(self.folder, segment_bytes=SMALL)
        # The watermark on disk may lag behind; the events in between come again, under the same numbers.
        assert self.outbox.committed <= self.committed
        self.outbox.discard(self.committed)

    @rule(cut=st.integers(1, 30))
    def power_cut(self, cut: int) -> None:
        last = max(self.model, default=0)
        segments = sorted(self.folder.glob("*.log"))
        if not segments or last <= max(self.handed_out, self.committed):
            return  # what was handed out had been flushed: a power cut cannot take it
        data = segments[-1].read_bytes()
        if not data:
            return
        line = data.rstrip(b"\n").rpartition(b"\n")[2]
        segments[-1].write_bytes(data[: -min(cut, len(line))])
        del self.model[last]
        self.killed()

    @rule()
    def closed(self) -> None:
        self.outbox.close()
        self.outbox = FileOutbox(self.folder, segment_bytes=SMALL)
        assert self.outbox.committed == self.committed

    @invariant()
    def the_rest_is_waiting(self) -> None:
        assert self.outbox.waiting == len([seq for seq in self.model if seq > self.committed])

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


TestOutboxes = Outboxes.TestCase
TestOutboxes.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
