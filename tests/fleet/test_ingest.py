"""Telemetry in: whatever comes again, late or in pieces, the tables are those of everything having come once."""

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import pairwise

import msgspec
import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from fleet.contexts import context_text
from fleet.models import Complaint, ContextDay, Frame, FrameDay, HealthEvent, OutboxWatermark, Playback, PowerSample
from fleet.services.ingest import ingest, watermarks
from protocol import messages
from protocol.messages import AnyEvent, TelemetryBatch
from tests.fleet.factories import (
    DAY_MS,
    OUTBOX,
    RELEASE,
    batch,
    complaint,
    health,
    make_frame,
    playback,
    power,
)

pytestmark = pytest.mark.django_db

FRAMES = ("frame-1", "frame-2")
OUTBOXES = ("1" * 32, "2" * 32)
Outbox = tuple[str, str]


def test_every_kind_of_event_becomes_a_row_with_its_figures() -> None:
    make_frame()
    found = ingest([("frame-1", batch(playback(1), complaint(2), power(3), health(5, detail="no \0 please")))])
    assert found == {("frame-1", OUTBOX): 5}
    shown = Playback.objects.get()
    assert (shown.seq, shown.watched_s, shown.completed, shown.fps, shown.first_frame_ms) == (1, 4.5, True, 25.0, None)
    assert shown.at == datetime(1970, 1, 2, tzinfo=UTC)
    assert shown.release == RELEASE
    assert Complaint.objects.get().playback_id == shown.playback_id
    assert PowerSample.objects.get().npu_w == 1.5
    event = HealthEvent.objects.get()
    assert (event.kind, event.detail, event.figures, event.release) == ("refusal", "no \ufffd please", {"lost": 3}, "")
    day = FrameDay.objects.get()
    assert (day.day, day.release) == (date(1970, 1, 2), RELEASE)
    assert (day.playbacks, day.completed, day.complaints) == (1, 1, 1)
    assert (day.power_sum_w, day.power_samples) == (4.75, 1)


def test_latency_and_frame_rate_are_summed_as_logs_of_what_is_known() -> None:
    make_frame()
    ingest([("frame-1", batch(playback(1, first_frame_ms=200), playback(2), playback(3, first_frame_ms=0)))])
    day = FrameDay.objects.get()
    assert (day.latency_samples, day.fps_samples) == (1, 3)
    assert day.latency_log_sum == pytest.approx(math.log(200))
    assert day.fps_log_sum == pytest.approx(3 * math.log(25))


def test_power_that_no_meter_measured_is_kept_and_not_summed() -> None:
    make_frame()
    ingest([("frame-1", batch(power(1, watts=5), msgspec.structs.replace(power(2, watts=50), estimated=True)))])
    assert PowerSample.objects.count() == 2
    day = FrameDay.objects.get()
    assert (day.power_sum_w, day.power_samples) == (5, 1)


def test_a_playback_counts_under_its_context_and_a_complaint_where_its_playback_does() -> None:
    make_frame()
    turned = {"pose": "turned", "loudness": "quiet", "weather": "fine"}
    ingest(
        [
            (
                "frame-1",
                batch(
                    playback(1, playback_id="1" * 32, context=turned),
                    playback(2, playback_id="2" * 32, context={"pose": "frontal"}, completed=False),
                    playback(3, playback_id="3" * 32),
                    complaint(4, playback_id="1" * 32, at=3 * DAY_MS),
                    complaint(5, playback_id="9" * 32),
                ),
            )
        ]
    )
    rows = ContextDay.objects.order_by("context").values_list("day", "context", "playbacks", "completed", "complaints")
    assert list(rows) == [
        (date(1970, 1, 2), "loudness=quiet pose=turned", 1, 1, 1),
        (date(1970, 1, 2), "pose=frontal", 1, 0, 0),
    ]
    assert Playback.objects.get(seq=1).context == "loudness=quiet pose=turned"
    assert Playback.objects.get(seq=3).context == ""


def test_a_batch_that_comes_again_counts_nothing_and_is_answered_again() -> None:
    make_frame()
    again = [("frame-1", batch(playback(1), playback(2, completed=False), power(3)))]
    assert ingest(again) == ingest(again) == ingest(again * 3) == {("frame-1", OUTBOX): 3}
    assert Playback.objects.count() == 2
    day = FrameDay.objects.get()
    assert (day.playbacks, day.completed, day.power_samples) == (2, 1, 1)


def test_a_late_batch_never_moves_the_watermark_back() -> None:
    make_frame()
    ingest([("frame-1", batch(playback(8)))])
    assert ingest([("frame-1", batch(playback(3)))]) == {("frame-1", OUTBOX): 8}
    assert Playback.objects.count() == 2


def test_an_unknown_frame_is_dropped_without_a_watermark_and_without_harm_to_others() -> None:
    make_frame()
    found = ingest([("stranger", batch(playback(1), frame_id="stranger")), ("frame-1", batch(playback(1)))])
    assert found == {("frame-1", OUTBOX): 1}
    assert list(Playback.objects.values_list("frame_id", flat=True)) == ["frame-1"]
    assert ingest([("stranger", batch(playback(1), frame_id="stranger"))]) == {}


def test_the_same_event_in_two_outboxes_is_two_events() -> None:
    make_frame()
    ingest([("frame-1", batch(playback(1), outbox_id=outbox)) for outbox in OUTBOXES])
    assert FrameDay.objects.get().playbacks == 2


def test_a_day_ends_at_midnight_utc() -> None:
    make_frame()
    ingest([("frame-1", batch(playback(1, at=2 * DAY_MS - 1), playback(2, at=2 * DAY_MS)))])
    assert list(FrameDay.objects.order_by("day").values_list("day", flat=True)) == [date(1970, 1, 2), date(1970, 1, 3)]


def test_a_frame_whose_events_come_in_has_been_seen() -> None:
    make_frame()
    ingest([("frame-1", batch(playback(1)))], now=datetime(2030, 1, 1, tzinfo=UTC))
    assert Frame.objects.get().last_seen == datetime(2030, 1, 1, tzinfo=UTC)


def test_watermarks_are_zero_for_an_outbox_never_heard_of() -> None:
    make_frame()
    ingest([("frame-1", batch(playback(7)))])
    asked = [("frame-1", OUTBOX), ("frame-1", "9" * 32), ("stranger", OUTBOX)]
    assert watermarks(asked) == {asked[0]: 7, asked[1]: 0, asked[2]: 0}
    assert watermarks([]) == {}


# --- against a model in plain Python ----------------------------------------------------------------------------------


@dataclass
class Model:
    """What the tables should say."""

    rows: dict[type, set[tuple[str, str, int]]] = field(default_factory=dict)
    days: dict[tuple[str, date, str], Counter[str]] = field(default_factory=dict)
    playbacks: dict[tuple[str, str, str], messages.PlaybackEvent] = field(default_factory=dict)
    complaints: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Both by frame, outbox and playback."""
    marks: dict[Outbox, int] = field(default_factory=dict)

    def take(self, frame_id: str, come: TelemetryBatch) -> None:
        for event in come.events:
            key = (frame_id, come.outbox_id, event.seq)
            known = self.rows.setdefault(type(event), set())
            if key not in known:
                known.add(key)
                self._count(frame_id, event)
                if isinstance(event, messages.PlaybackEvent):
                    self.playbacks[frame_id, come.outbox_id, event.playback_id] = event
                if isinstance(event, messages.Complaint):
                    self.complaints[frame_id, come.outbox_id, event.playback_id] += 1
            mark = (frame_id, come.outbox_id)
            self.marks[mark] = max(self.marks.get(mark, 0), event.seq)

    @property
    def contexts(self) -> dict[tuple[str, date, str, str], tuple[int, int, int]]:
        """Playbacks, completions and complaints by frame, day, context and release."""
        sums: dict[tuple[str, date, str, str], Counter[str]] = {}
        for (frame_id, outbox_id, playback_id), event in self.playbacks.items():
            if not isinstance(event.context, dict):
                continue
            day = datetime.fromtimestamp(event.at / 1000, UTC).date()
            found = sums.setdefault((frame_id, day, context_text(event.context), event.release or ""), Counter())
            found["playbacks"] += 1
            found["completed"] += event.completed
            found["complaints"] += self.complaints[frame_id, outbox_id, playback_id]
        return {key: (one["playbacks"], one["completed"], one["complaints"]) for key, one in sums.items()}

    def _count(self, frame_id: str, event: AnyEvent) -> None:
        if isinstance(event, messages.HealthEvent):
            return
        day = datetime.fromtimestamp(event.at / 1000, UTC).date()
        sums = self.days.setdefault((frame_id, day, event.release or ""), Counter())
        match event:
            case messages.PlaybackEvent():
                sums["playbacks"] += 1
                sums["completed"] += event.completed
            case messages.Complaint():
                sums["complaints"] += 1
            case messages.PowerSample():
                sums["power_samples"] += 1
                sums["power_quarter_w"] += int(event.total_w * 4)


def _events(seqs: list[int]) -> st.SearchStrategy[list[AnyEvent]]:
    at = st.integers(0, 4 * DAY_MS)
    release = st.sampled_from([None, "a" * 64, "b" * 64])

    context = st.sampled_from([UNSET, {"pose": "turned"}, {"pose": "frontal", "loudness": "quiet"}])

    def one(seq: int) -> st.SearchStrategy[AnyEvent]:
        own = f"{seq:032x}"
        any_of_them = st.sampled_from([f"{one:032x}" for one in seqs])  # before or after it, or none at all
        return st.one_of(
            st.builds(
                playback,
                st.just(seq),
                at=at,
                completed=st.booleans(),
                release=release,
                playback_id=st.just(own),
                context=context,
            ),
            st.builds(complaint, st.just(seq), at=at, release=release, playback_id=any_of_them),
            st.builds(power, st.just(seq), at=at, watts=st.integers(0, 40).map(lambda n: n / 4), release=release),
            st.builds(health, st.just(seq), at=at),
        )

    return st.tuples(*map(one, seqs)).map(list)


_outboxes = st.dictionaries(
    st.tuples(st.sampled_from(FRAMES), st.sampled_from(OUTBOXES)),
    st.lists(st.integers(1, 60), min_size=1, max_size=12, unique=True).map(sorted).flatmap(_events),
    min_size=1,
)


@st.composite
def _deliveries(draw: st.DrawFn) -> list[list[tuple[str, TelemetryBatch]]]:
    """Transactions of batches: overlapping pieces of the same outboxes, in any order, some again."""
    outboxes = draw(_outboxes)
    pieces: list[tuple[str, TelemetryBatch]] = []
    for (frame_id, outbox_id), events in outboxes.items():
        cuts = sorted({0, len(events), *draw(st.lists(st.integers(0, len(events)), max_size=3))})
        for start, end in pairwise(cuts):
            overlap = draw(st.integers(0, start))
            pieces.append((frame_id, batch(*events[overlap:end], frame_id=frame_id, outbox_id=outbox_id)))
    again = draw(st.lists(st.sampled_from(pieces), max_size=4))
    order = draw(st.permutations([*pieces, *again]))
    size = draw(st.integers(1, len(order)))
    return [list(order[at : at + size]) for at in range(0, len(order), size)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_deliveries())
def test_redelivered_reordered_and_overlapping_batches_give_the_tables_of_the_model(
    deliveries: list[list[tuple[str, TelemetryBatch]]],
) -> None:
    model = Model()
    with transaction.atomic():
        for frame_id in FRAMES:
            make_frame(frame_id)
        for delivery in deliveries:
            for frame_id, come in delivery:
                model.take(frame_id, come)
            marks = ingest(delivery)
            assert marks == {key: model.marks[key] for key in marks}
            assert set(marks) == {(frame_id, come.outbox_id) for frame_id, come in delivery}
        for kind, table in (
            (messages.PlaybackEvent, Playback),
            (messages.Complaint, Complaint),
            (messages.PowerSample, PowerSample),
            (messages.HealthEvent, HealthEvent),
        ):
            stored = [
                (row.frame_id, row.outbox_id.hex if row.outbox_id else "", row.seq)
                for row in table.objects.only("frame_id", "outbox_id", "seq")
            ]
            assert sorted(stored) == sorted(model.rows.get(kind, set()))
        days = {
            (day.frame_id, day.day, day.release): Counter(
                playbacks=day.playbacks,
                completed=day.completed,
                complaints=day.complaints,
                power_samples=day.power_samples,
                power_quarter_w=int(day.power_sum_w * 4),
            )
            for day in FrameDay.objects.all()
        }
        assert days == model.days
        contexts = {
            (row.frame_id, row.day, row.context, row.release): (row.playbacks, row.completed, row.complaints)
            for row in ContextDay.objects.all()
        }
        assert contexts == model.contexts
        stored_marks = {(m.frame_id, m.outbox_id.hex): m.seq for m in OutboxWatermark.objects.all()}
        assert stored_marks == model.marks
        transaction.set_rollback(True)
