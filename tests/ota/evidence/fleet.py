"""A fleet's rows: a past, a rollout that began, and what households did since, as telemetry keeps it."""

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fleet.models import Complaint, Frame, FrameDay, FrameGroup, Playback, PowerSample
from ota.domain.plan import GateKind, Plan, StagePlan
from ota.models import Release, Rollout
from ota.services import membership, rollouts
from tests.ota.world import enrol

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
"""A midnight: what a day holds is what the table's day holds."""
BEFORE = "b" * 64
"""Digest of the release that everybody ran before."""
SALT = "5" * 32
Event = Playback | PowerSample | Complaint
MakeFleet = Callable[..., "Fleet"]
"""``make_fleet``, as a fixture."""
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


@dataclass
class People:
    """How households live: chances and means for canaries that have the release, and for everybody else."""

    completes: float = 0.8
    watts: float = 4.8
    complains: float = 0.01
    playbacks: float = 6.0


def plan(completion: float = 0.15, power: float = 0.20, **more: object) -> Plan:
    """One stage gated by evidence with these margins, everybody else, and a holdback."""
    margins = {"completion": completion, "power": power}
    stage = StagePlan(share=0.25, gate=GateKind.EVIDENCE, dwell_h=24, margins=margins)
    return Plan(stages=[stage, StagePlan(share=1.0)], **{"holdback": 0.05, **more})  # type: ignore[arg-type]


@dataclass
class Fleet:
    """``count`` frames in one group, with 28 days of history before START."""

    release: Release
    count: int = 160
    seed: int = 1
    group: FrameGroup = field(init=False)
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.group = FrameGroup.objects.create(name="zh", query="locale=zh")
        ids = enrol(self.count)
        Frame.objects.update(enrolled_at=START - 100 * DAY, last_seen=START)
        rows = []
        for frame_id in ids:
            n = int(self.random.poisson(6 * 28)) + 1
            done, watts = int(self.random.binomial(n, 0.8)), self.random.normal(4.8, 0.2)
            rows.append(
                FrameDay(
                    frame_id=frame_id,
                    day=(START - 14 * DAY).date(),
                    release=BEFORE,
                    playbacks=n,
                    completed=done,
                    complaints=int(self.random.random() < 0.2),
                    power_sum_w=n * watts,
                    power_samples=n,
                )
            )
        FrameDay.objects.bulk_create(rows)

    def begin(self, what: Plan | None = None, at: dt.datetime = START, salt: str = SALT) -> Rollout:
        """A rollout whose first stage was opened, offered and committed at ``at``."""
        was = membership.draw_salt
        membership.draw_salt = lambda group, shares: salt
        try:
            rollout = rollouts.start(self.release, self.group, what or plan(), "ops", "why", now=at, base_model=True)
        finally:
            membership.draw_salt = was
        rollout.deployments.update(entered_at=at)
        rollouts.tick(rollout.pk, at)
        self.commit(rollout, at)
        rollout.refresh_from_db()
        return rollout

    def commit(self, rollout: Rollout, at: dt.datetime) -> None:
        """Everybody who was offered the release runs it."""
        offered = rollout.deployments.filter(offered_at__isnull=False)
        offered.update(state="committed", committed_at=at)

    def live(
        self,
        rollout: Rollout,
        day: int,
        others: People | None = None,
        canaries: People | None = None,
        *,
        runs: str | None = None,
        controls_run: str = BEFORE,
    ) -> None:
        """Day ``day`` from START on: roll-ups, and on the day of an offer the events too. Canaries run ``runs`` (their
        release by default)."""
        others = others or People()
        canaries = canaries or others
        runs = rollout.release_id if runs is None else runs
        date = (START + day * DAY).date()
        days: list[FrameDay] = []
        events: list[Event] = []
        for row in rollout.deployments.order_by("frame_id"):
            canary = row.offered_at is not None
            who = canaries if canary else others
            n = int(self.random.poisson(who.playbacks))
            if not n:
                continue
            done = self.random.random(n) < who.completes
            watts = self.random.normal(who.watts, 0.15, n)
            bad = int((self.random.random(n) < who.complains).sum())
            release = runs if canary else controls_run
            days.append(
                FrameDay(
                    frame_id=row.frame_id,
                    day=date,
                    release=release,
                    playbacks=n,
                    completed=int(done.sum()),
                    complaints=bad,
                    power_sum_w=float(watts.sum()),
                    power_samples=n,
                )
            )
            if row.offered_at is not None and row.offered_at.date() == date:
                events += self._films(row.frame_id, row.offered_at, release, done, watts)
            if bad:
                events.append(self._complaint(row.frame_id, START + day * DAY + 20 * HOUR, release))
        FrameDay.objects.bulk_create(days)
        Playback.objects.bulk_create(one for one in events if isinstance(one, Playback))
        PowerSample.objects.bulk_create(one for one in events if isinstance(one, PowerSample))
        Complaint.objects.bulk_create(one for one in events if isinstance(one, Complaint))
        Frame.objects.filter(deployments__rollout=rollout).update(last_seen=START + (day + 1) * DAY)

    def _films(self, frame_id: str, begin: dt.datetime, release: str, done: Any, watts: Any) -> Iterator[Event]:
        """At half past the hours that are left of the day after ``begin``, with a power sample each."""
        left = max(1, 23 - begin.hour)
        film = {"mode": "talking", "voice_s": 5.0, "video_s": 5.0, "watched_s": 5.0}
        for place, (completed, watt) in enumerate(zip(done, watts, strict=True)):
            at = begin + HOUR * (place % left) + HOUR / 2
            named = self._named(frame_id, at, release)
            yield Playback(**named, **film, playback_id=uuid.uuid4(), completed=bool(completed))
            yield PowerSample(**named, window_s=5.0, total_w=float(watt), estimated=False)

    def _complaint(self, frame_id: str, at: dt.datetime, release: str) -> Complaint:
        return Complaint(**self._named(frame_id, at, release), playback_id=uuid.uuid4(), kind="lips")

    def _named(self, frame_id: str, at: dt.datetime, release: str) -> dict[str, Any]:
        number = uuid.UUID(int=int(self.random.integers(1 << 62)))
        return {"frame_id": frame_id, "outbox_id": number, "seq": 1, "at": at, "received_at": at, "release": release}
