"""What frames measured. Rows are written by ``fleet.services.ingest`` alone; (frame, outbox_id, seq) names an event.

The unique constraint's index serves reads by frame too, so the foreign keys have none of their own.
"""

from typing import ClassVar

from django.contrib.postgres.indexes import BrinIndex
from django.db import models

from fleet.contexts import MAX_CONTEXT_TEXT
from fleet.models.frames import Frame


class Event(models.Model):
    """What every event has. ``release`` is the digest of the release that was playing, "" for none."""

    frame = models.ForeignKey(Frame, on_delete=models.CASCADE, related_name="+", db_index=False)
    outbox_id = models.UUIDField()
    seq = models.BigIntegerField()
    at = models.DateTimeField()
    """When it happened, by a clock that was put right (``fleet.services.event_times``); never after ``received_at``."""
    release = models.CharField(max_length=64, blank=True)
    received_at = models.DateTimeField()

    class Meta:
        abstract = True
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["frame", "outbox_id", "seq"], name="%(class)s_event_once"),
        ]
        # Events lie in the table much as they came, so this small index finds all frames' events between two times.
        indexes: ClassVar = [BrinIndex(fields=["at"], autosummarize=True, name="%(class)s_at")]


class Playback(Event):
    """One film shown; times in seconds."""

    playback_id = models.UUIDField()
    mode = models.CharField(max_length=16)
    voice_s = models.FloatField()
    video_s = models.FloatField()
    watched_s = models.FloatField()
    completed = models.BooleanField()
    first_frame_ms = models.FloatField(null=True)
    fps = models.FloatField(null=True)
    context = models.CharField(max_length=MAX_CONTEXT_TEXT, blank=True)
    """Words about the film: ``fleet.contexts``."""


class Complaint(Event):
    """Somebody pressed "lips don't match" on this playback."""

    playback_id = models.UUIDField()
    kind = models.CharField(max_length=16)


class PowerSample(Event):
    """Mean power over a window, in watts."""

    window_s = models.FloatField()
    total_w = models.FloatField()
    npu_w = models.FloatField(null=True)
    cpu_w = models.FloatField(null=True)
    battery_percent = models.FloatField(null=True)
    estimated = models.BooleanField()


class HealthEvent(Event):
    """Something ops should know. What the backend itself noted about a frame has no outbox."""

    outbox_id = models.UUIDField(null=True)  # type: ignore[assignment]
    seq = models.BigIntegerField(null=True)  # type: ignore[assignment]
    kind = models.CharField(max_length=64)
    detail = models.CharField(max_length=500, blank=True)
    figures = models.JSONField(default=dict, blank=True)

    class Meta(Event.Meta):
        abstract = False
        indexes: ClassVar = [
            *Event.Meta.indexes,
            models.Index(fields=["-received_at"]),
            models.Index(fields=["frame", "-received_at"]),
        ]


class OutboxWatermark(models.Model):
    """Everything of this outbox up to ``seq`` is committed."""

    frame = models.ForeignKey(Frame, on_delete=models.CASCADE, related_name="+", db_index=False)
    outbox_id = models.UUIDField()
    seq = models.BigIntegerField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["frame", "outbox_id"], name="outboxwatermark_once"),)


class FrameDay(models.Model):
    """One frame's day (UTC) under one release: the roll-up that metrics are computed from.

    Power is what meters measured; estimates say nothing about a release and are not in the sums.
    Latency (time to the first frame, ms) and frames per second are summed as natural logs, over the playbacks that
    have them.
    """

    frame = models.ForeignKey(Frame, on_delete=models.CASCADE, related_name="days", db_index=False)
    day = models.DateField()
    release = models.CharField(max_length=64, blank=True)
    playbacks = models.IntegerField(default=0)
    completed = models.IntegerField(default=0)
    complaints = models.IntegerField(default=0)
    power_sum_w = models.FloatField(default=0)
    power_samples = models.IntegerField(default=0)
    latency_log_sum = models.FloatField(default=0)
    latency_samples = models.IntegerField(default=0)
    fps_log_sum = models.FloatField(default=0)
    fps_samples = models.IntegerField(default=0)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["frame", "day", "release"], name="frameday_once"),)
        indexes = (models.Index(fields=["release", "day"]), models.Index(fields=["day"]))


class ContextDay(models.Model):
    """One frame's day (UTC) under one release, as far as its playbacks had one context (``fleet.contexts``); playbacks
    without any are not in here. A complaint counts where its playback does, on the playback's day."""

    frame = models.ForeignKey(Frame, on_delete=models.CASCADE, related_name="+", db_index=False)
    day = models.DateField()
    context = models.CharField(max_length=MAX_CONTEXT_TEXT)
    release = models.CharField(max_length=64, blank=True)
    playbacks = models.IntegerField(default=0)
    completed = models.IntegerField(default=0)
    complaints = models.IntegerField(default=0)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["frame", "day", "context", "release"], name="contextday_once"),)
        indexes = (BrinIndex(fields=["day"], autosummarize=True, name="contextday_day"),)
