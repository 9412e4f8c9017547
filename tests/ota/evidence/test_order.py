"""Telemetry that comes late, twice, in another order or from wrong clocks gives the same verdict."""

import datetime as dt
import random
from typing import Any

import numpy as np
import pytest

from fleet.models import Frame, FrameDay, Playback
from fleet.services.event_times import millis
from fleet.services.ingest import Batches, ingest
from ota.models import Look, Rollout
from ota.services import evidence
from protocol.messages import AnyEvent, Complaint, PlaybackEvent, PowerSample, TelemetryBatch
from tests.ota.evidence.fleet import DAY, HOUR, START, MakeFleet

pytestmark = pytest.mark.django_db

BEGAN = START + 10 * HOUR
NOW = START + 3 * DAY


@pytest.fixture
def rollout(make_fleet: MakeFleet) -> Rollout:
    return make_fleet(count=100).begin(at=BEGAN)


def told(rollout: Rollout, skew: dict[str, dt.timedelta] | None = None) -> Batches:
    """What every frame tells of its days, one batch a day, dated by its own clock and sent an hour after midnight."""
    draw, found = np.random.default_rng(4), []
    for row in rollout.deployments.order_by("frame_id"):
        wrong = (skew or {}).get(row.frame_id, dt.timedelta())
        seq = 0
        for day in range(3):
            events: list[AnyEvent] = []
            for hour in sorted(draw.integers(0, 23, draw.poisson(5))):
                at = START + day * DAY + (int(hour) + 0.5) * HOUR
                has = row.offered_at is not None and at >= row.offered_at
                common: dict[str, Any] = {"at": millis(at + wrong), "release": rollout.release_id if has else "b" * 64}
                film = f"{row.pk:016x}{seq:016x}"
                events.append(
                    PlaybackEvent(
                        **common, seq=seq + 1, playback_id=film, mode="talking", voice_s=5, video_s=5, watched_s=5,
                        completed=bool(draw.random() < (0.5 if has else 0.8)), first_frame_ms=210.0, fps=25.0,
                    )
                )  # fmt: skip
                events.append(PowerSample(**common, seq=seq + 2, window_s=5, total_w=float(draw.normal(4.8, 0.1))))
                if draw.random() < 0.02:
                    events.append(Complaint(**common, seq=seq + 3, playback_id=film))
                seq += 3
            if events:
                sent = millis(START + (day + 1) * DAY + HOUR + wrong)
                outbox = f"{row.pk:032x}"
                batch = TelemetryBatch(frame_id=row.frame_id, outbox_id=outbox, events=events, sent_at=sent)
                found.append((row.frame_id, batch))
    return found


def looked(rollout: Rollout) -> Look:
    Frame.objects.update(last_seen=NOW + HOUR)
    found = evidence.evaluate(rollout.pk, NOW + HOUR)
    assert found is not None
    return found


def forget(rollout: Rollout) -> None:
    from fleet.models import Complaint as ComplaintRow
    from fleet.models import OutboxWatermark
    from fleet.models import PowerSample as PowerRow

    for model in (Playback, ComplaintRow, PowerRow, OutboxWatermark):
        model.objects.all().delete()
    FrameDay.objects.filter(day__gte=START.date()).delete()
    Look.objects.all().delete()


def test_late_repeated_and_reordered_telemetry_gives_the_same_verdict(rollout: Rollout) -> None:
    batches = [(frame_id, msg_without_clock(batch)) for frame_id, batch in told(rollout)]
    ingest(batches, NOW + HOUR)
    first = looked(rollout)
    assert first.evidence["exposure"]["enough"]
    forget(rollout)
    again = batches + batches[::3]
    random.Random(7).shuffle(again)
    for start in range(0, len(again), 60):
        ingest(again[start : start + 60], NOW + HOUR)
    second = looked(rollout)
    assert (second.decision, second.reason, second.metrics) == (first.decision, first.reason, first.metrics)
    assert second.log_total == pytest.approx(first.log_total, rel=1e-9)
    assert second.evidence["exposure"] == first.evidence["exposure"]
    for one, other in zip(first.evidence["metrics"], second.evidence["metrics"], strict=True):
        assert other.keys() == one.keys()
        for field, value in one.items():
            same = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            assert other[field] == same


def msg_without_clock(batch: TelemetryBatch) -> TelemetryBatch:
    """As frames send it whose clock is right: nothing has to be put right."""
    return TelemetryBatch(frame_id=batch.frame_id, outbox_id=batch.outbox_id, events=batch.events)


def test_clocks_that_are_days_off_give_the_same_verdict(rollout: Rollout) -> None:
    ingest([(frame_id, msg_without_clock(batch)) for frame_id, batch in told(rollout)], NOW + HOUR)
    first = looked(rollout)
    forget(rollout)
    draw = random.Random(3)
    frames = rollout.deployments.values_list("frame_id", flat=True)
    skew = {frame_id: dt.timedelta(days=draw.uniform(-9, 9)) for frame_id in frames}
    by_day: dict[int, Batches] = {}
    for frame_id, batch in told(rollout, skew):
        assert isinstance(batch.sent_at, int)
        arrived = batch.sent_at - round(skew[frame_id] / dt.timedelta(milliseconds=1))
        by_day.setdefault(arrived, []).append((frame_id, batch))
    for arrived, batches in sorted(by_day.items()):
        ingest(batches, dt.datetime.fromtimestamp(arrived / 1000, dt.UTC))
    second = looked(rollout)
    assert (second.decision, second.reason) == (first.decision, first.reason)
    assert second.evidence["exposure"] == first.evidence["exposure"]
    assert second.log_total == pytest.approx(first.log_total, rel=1e-6)
