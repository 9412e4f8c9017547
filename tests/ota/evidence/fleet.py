"""A fleet's rows: a past, a rollout that began, and what households did since, as telemetry keeps it."""

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fleet.models import Complaint, Frame, FrameDay, FrameGroup, Playback, PowerSample
from ota.domain.plan import GateKind, Plan, StagePlan
from ota.models import Deployment, Release, Rollout
from ota.services import membership, rollouts
from tests.ota.world import enrol

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
"""A midnight: what a day holds is what the table's day holds."""
BEFORE = "b" * 64
"""Digest of the release that everybody ran before."""
SALT = "5" * 32
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
    count: int = 240
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
        until: dt.datetime | None = None,
    ) -> None:
        """Day ``day`` from START on: roll-ups, and on the day of an offer the events too. Canaries run ``runs`` (their
        release by default)."""
        others = others or People()
        canaries = canaries or others
        runs = rollout.release_id if runs is None else runs
        date = (START + day * DAY).date()
        days: list[FrameDay] = []
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
                self._events(row, release, done, watts, bad)
            elif bad:
                self._events(row, release, done[:0], watts[:0], 1, day=day)
        FrameDay.objects.bulk_create(days)
        seen = until or START + (day + 1) * DAY
        Frame.objects.filter(deployments__rollout=rollout).update(last_seen=seen)

    def _events(
        self,
        row: Deployment,
        release: str,
        done: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
        watts: "np.ndarray[tuple[int], np.dtype[np.float64]]",
        complaints: int,
        day: int = 0,
    ) -> None:
        """At half past some hour of the day after the offer."""
        begin = row.offered_at if row.offered_at is not None and len(done) else START + day * DAY
        assert begin is not None
        left = max(1, int((begin.replace(hour=23, minute=59) - begin) / HOUR))

        def common(place: int) -> dict[str, object]:
            at = begin + HOUR * (place % left) + HOUR / 2
            return {
                "frame_id": row.frame_id,
                "outbox_id": uuid.UUID(int=int(self.random.integers(1 << 62))),
                "seq": place + 1,
                "at": at,
                "received_at": at,
                "release": release,
            }

        film = {"mode": "talking", "voice_s": 5.0, "video_s": 5.0, "watched_s": 5.0}
        Playback.objects.bulk_create(
            Playback(**common(i), playback_id=uuid.uuid4(), completed=bool(one), **film) for i, one in enumerate(done)
        )
        PowerSample.objects.bulk_create(
            PowerSample(**common(i), window_s=5.0, total_w=float(one), estimated=False) for i, one in enumerate(watts)
        )
        Complaint.objects.bulk_create(
            Complaint(**common(i), playback_id=uuid.uuid4(), kind="lips") for i in range(complaints)
        )
