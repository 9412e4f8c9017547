"""One simulated rollout as rows of a database: frames, their past, days, events, offers, as telemetry leaves them."""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from benchmarks.canary.staged import Ledger
from ota.domain import assignment
from ota.domain.analysis.policy import COMPLETION, FPS, LATENCY, POWER, Policy, Stage
from ota.domain.analysis.table import HOURS, FloatArray, IntArray

if TYPE_CHECKING:
    from ota.models import Rollout

ORIGIN = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
NO_RELEASE = ""
_DAY = "frame_id, day, release, playbacks, completed, complaints, power_sum_w, power_samples, latency_log_sum, "
DAY_COLUMNS = _DAY + "latency_samples, fps_log_sum, fps_samples"
EVENT = "frame_id, outbox_id, seq, at, release, received_at"


def at(hours: float) -> dt.datetime:
    """The time of an hour of the rollout."""
    return ORIGIN + dt.timedelta(hours=hours)


class Rows:
    """One rollout in the database, kept up to date with a ledger."""

    def __init__(self, ledger: Ledger, stages: Sequence[Stage], number: int, holdback: float = 0.0) -> None:
        self.ledger, self.number = ledger, number
        self.ids = [f"r{number}-{i:06d}" for i in range(ledger.world.model.frames)]
        self.digest = f"{number:064x}"
        self._seq = 0
        self.rollout = self._begin(stages, holdback)
        self._past()

    def _begin(self, stages: Sequence[Stage], holdback: float) -> "Rollout":
        from django.db import connection

        from fleet.models import FrameGroup
        from ota.domain import plan
        from ota.models import Release, Rollout

        release = Release.objects.create(
            digest=self.digest, name=f"canary-{self.number}", version="1", manifest={}, path="", length=0
        )
        group = FrameGroup.objects.create(name=f"canary-{self.number}")
        planned = plan.Plan(
            stages=[
                plan.StagePlan(share=stage.share, dwell_h=stage.dwell_h, margins=dict(stage.margins))
                for stage in stages
            ],
            holdback=holdback,
            holdback_h=stages[-1].dwell_h,
        )
        rollout = Rollout.objects.create(
            release=release, group=group, plan=plan.kept(planned), began_at=ORIGIN, current_stage=1, created_by="bench"
        )
        for number, step in enumerate(planned.steps(), start=1):
            rollout.stages.create(number=number, share=step.share, gate=step.gate.value, dwell_h=step.dwell_h)
        long_ago = ORIGIN - dt.timedelta(days=400)
        hardware = self.ledger.world.hardware.tolist()
        copy("fleet_household", "id", ((name,) for name in self.ids))
        copy(
            "fleet_frame",
            "id, household_id, hardware, locale, timezone, site, simulated, lifecycle, enrolled_at, "
            "certificate_fingerprint, last_seen, agent_version, desired_version",
            (
                (name, name, f"hw-{kind}", "en", "UTC", "", True, "active", long_ago, "", ORIGIN, "", 0)
                for name, kind in zip(self.ids, hardware, strict=True)
            ),
        )
        shares = [stage.share for stage in stages]
        arms = [assignment.arm(u, shares, holdback) for u in self.ledger.number.tolist()]
        copy(
            "ota_deployment",
            "rollout_id, frame_id, arm, u, state, reason, detail, desired_version, updated_at, entered_at, attempts",
            (
                (rollout.pk, name, side, u, "pending", "", "", 0, ORIGIN, ORIGIN, 0)
                for name, side, u in zip(self.ids, arms, self.ledger.number.tolist(), strict=True)
            ),
        )
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE ota_deployment, fleet_frame")
        return rollout

    def _past(self) -> None:
        """28 days in one row of the last of them; a row for each day with a complaint, from the one before it on."""
        world = self.ledger.world
        count = world.history[COMPLETION].count
        some = np.flatnonzero(count)
        day = (ORIGIN - dt.timedelta(days=1)).date()
        sums = {name: world.history[name].total for name in (COMPLETION, POWER, LATENCY, FPS)}
        copy("fleet_frameday", DAY_COLUMNS, self._days(some, day, NO_RELEASE, count, sums, np.zeros(len(count))))
        days = world.history_complaints.astype(np.int64)
        copy(
            "fleet_frameday",
            DAY_COLUMNS,
            (
                (self.ids[i], day - dt.timedelta(days=1 + back), NO_RELEASE, 0, 0, 1, 0.0, 0, 0.0, 0, 0.0, 0)
                for i in np.flatnonzero(days).tolist()
                for back in range(int(days[i]))
            ),
        )
        breaks = world.breaks_h
        soon = np.flatnonzero(breaks < HOURS * Policy().last_day)
        copy(
            "fleet_healthevent",
            f"{EVENT}, kind, detail, figures",
            ((*self._event(i, float(breaks[i])), "playback_failed", "", "{}") for i in soon.tolist()),
        )

    def _event(self, frame: int, hour: float) -> tuple[str, UUID, int, dt.datetime, str, dt.datetime]:
        self._seq += 1
        release = self.digest if self.ledger.offered_h[frame] <= hour else NO_RELEASE
        return self.ids[frame], UUID(int=self.number), self._seq, at(hour), release, at(hour)

    def _days(
        self,
        frames: IntArray,
        day: dt.date,
        release: str,
        count: FloatArray,
        sums: dict[str, FloatArray],
        complaints: FloatArray,
    ) -> Iterable[tuple[object, ...]]:
        for i in frames.tolist():
            n = int(count[i])
            yield (
                *(self.ids[i], day, release, n, int(sums[COMPLETION][i]), int(complaints[i])),
                *(float(sums[POWER][i]), n, float(sums[LATENCY][i]), n, float(sums[FPS][i]), n),
            )

    def sync(self, open_stages: int) -> None:
        """Bring the rows up to the ledger's hour: offers, the day so far, events, contacts."""
        from django.db import connection, transaction

        ledger = self.ledger
        day = (ledger.now_h - 1) // 24
        today = (ORIGIN + dt.timedelta(days=day)).date()
        offered_now = (ledger.offered_h >= 24 * day) & np.isfinite(ledger.offered_h)
        with transaction.atomic(), connection.cursor() as cursor:
            self._offer(open_stages)
            # Of canaries, what the former release did earlier today stays; the reader must leave it out.
            cursor.execute(
                "DELETE FROM fleet_frameday f USING ota_deployment d WHERE d.rollout_id = %s AND f.day = %s "
                "AND d.frame_id = f.frame_id "
                "AND NOT (f.release = '' AND d.offered_at IS NOT NULL AND d.offered_at >= %s)",
                [self.rollout.pk, today, at(24 * day)],
            )
            self.write_day(day)
            self._write_events(offered_now)
            cursor.execute(
                "UPDATE fleet_frame SET last_seen = %s WHERE id = ANY(%s)",
                [at(ledger.now_h), [self.ids[i] for i in np.flatnonzero(ledger.contact_h >= ledger.now_h).tolist()]],
            )
            for i in np.flatnonzero(ledger.contact_h < ledger.now_h).tolist():
                cursor.execute(
                    "UPDATE fleet_frame SET last_seen = %s WHERE id = %s", [at(float(ledger.contact_h[i])), self.ids[i]]
                )

    def _offer(self, open_stages: int) -> None:
        from django.db import connection

        rollout, offered = self.rollout, self.ledger.offered_h
        if rollout.current_stage != open_stages or open_stages == 1:
            rollout.current_stage = open_stages
            rollout.save(update_fields=["current_stage"])
            with connection.cursor() as cursor:
                for hour in np.unique(offered[np.isfinite(offered)]).tolist():
                    ids = [self.ids[i] for i in np.flatnonzero(offered == hour).tolist()]
                    cursor.execute(
                        "UPDATE ota_deployment SET offered_at = %s WHERE rollout_id = %s AND frame_id = ANY(%s)",
                        [at(hour), rollout.pk, ids],
                    )
            opened = at(float(offered[np.isfinite(offered)].max()))
            rollout.stages.filter(number=open_stages).update(opened_at=opened)

    def write_day(self, day: int) -> None:
        """The rows of a day, of whatever frames play now."""
        ledger = self.ledger
        count = ledger.played[:, day]
        sums = {name: ledger.sums[name][:, day] for name in (COMPLETION, POWER, LATENCY, FPS)}
        has = ledger.offered_h <= 24 * (day + 1)
        date = (ORIGIN + dt.timedelta(days=day)).date()
        for release, of in ((self.digest, has), (NO_RELEASE, ~has)):
            frames = np.flatnonzero((count > 0) & of)
            rows = self._days(frames, date, release, count, sums, ledger.complaints[:, day])
            copy("fleet_frameday", DAY_COLUMNS, rows)

    def _write_events(self, whose: NDArray[np.bool_]) -> None:
        """Playbacks and power of frames that were offered the release today; everybody's complaints."""
        slot = self.ledger.slot
        mine = np.flatnonzero(whose[slot.frame])
        frames, hours = slot.frame[mine].tolist(), (slot.hour[mine] + 0.5).tolist()
        logged = {name: values[mine] for name, values in slot.logged.items()}
        events = [self._event(frame, hour) for frame, hour in zip(frames, hours, strict=True)]
        copy(
            "fleet_playback",
            f"{EVENT}, playback_id, mode, voice_s, video_s, watched_s, completed, first_frame_ms, fps, context",
            (
                (*event, UUID(int=event[2]), "file", 4.0, 4.0, 4.0, done, ms, fps, "")
                for event, done, ms, fps in zip(
                    events,
                    slot.done[mine].tolist(),
                    np.exp(logged[LATENCY]).tolist(),
                    np.exp(logged[FPS]).tolist(),
                    strict=True,
                )
            ),
        )
        copy(
            "fleet_powersample",
            f"{EVENT}, window_s, total_w, estimated",
            ((*event, 4.0, watts, False) for event, watts in zip(events, logged[POWER].tolist(), strict=True)),
        )
        copy(
            "fleet_complaint",
            f"{EVENT}, playback_id, kind",
            (
                (*self._event(i, float(slot.said[i])), UUID(int=self._seq), "lips")
                for i in np.flatnonzero(slot.complaints).tolist()
                for _ in range(int(slot.complaints[i]))
            ),
        )


def copy(table: str, columns: str, rows: Iterable[tuple[object, ...]]) -> None:
    """Rows into a table, as fast as PostgreSQL takes them. Raises what the database raises."""
    from django.db import connection

    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as out:
        for row in rows:
            out.write_row(row)
