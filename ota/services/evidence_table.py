"""From rows to the frame-day table that the analysis judges.

Hour 0 is midnight UTC of the day on which the rollout began: FrameDay's days are UTC days, and the table's are counted
in whole days from hour 0, so that no day's sums are cut in two. What happened between midnight and the beginning
happened without the release, to canaries and controls alike, and counts as such.

The unit is the household, as far as its frames are of one hardware: they share their arm, and what they do resembles
each other. A unit counts from the first offer to one of its frames.

On the day of an offer, canaries' sums hold only what came after it, from the events themselves; days before it are
left out. Everybody else's days are whole.
"""

import datetime as dt
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ota.domain.analysis.policy import BREAKAGE, COMPLAINT, DARK, Policy
from ota.domain.analysis.table import HOURS, Arm, Days, FloatArray, Frames, IntArray, Sums, Table, build
from ota.domain.plan import Plan
from ota.models import Rollout
from ota.services import evidence_rows as rows
from ota.services.copied import Columns
from ota.services.facts import plan_of

LATE_S = 3_600.0
"""Whoever came in within so many seconds of the beginning was there from the start."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """All that was read for one look, before anybody is told apart. ``unit`` is each member's."""

    rollout: Rollout
    origin: dt.datetime
    """Hour 0."""
    now: dt.datetime
    members: rows.Members
    unit: IntArray
    units: int
    days: Columns
    day_unit: IntArray
    """Of each row of ``days``."""
    history: Columns
    history_unit: IntArray
    complaints: Columns
    first: dict[str, FloatArray]
    """First complaint and breakage of each unit."""
    newest_s: float
    """Up to when telemetry reaches at most, seconds since 1970 UTC."""

    @property
    def now_h(self) -> float:
        return (self.now - self.origin) / dt.timedelta(hours=1)

    @property
    def telemetry_age_h(self) -> float:
        """Age of the newest telemetry of any frame."""
        return max(0.0, (self.now.timestamp() - self.newest_s) / 3_600)

    def hours(self, seconds: FloatArray) -> FloatArray:
        """Hours since hour 0."""
        return np.asarray((seconds - self.origin.timestamp()) / 3_600)

    def least(self, values: FloatArray) -> FloatArray:
        """The smallest of each unit's members."""
        found = np.full(self.units, np.inf)
        np.minimum.at(found, self.unit, values)
        return found

    def most(self, values: FloatArray) -> FloatArray:
        """The largest of each unit's members."""
        return -self.least(-values)

    def measured(self, measure: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which units have a value of it: in their past, and since hour 0."""
        _, count = rows.SUMS[measure]
        before = np.bincount(self.history_unit, self.history[count], self.units)
        since = np.bincount(self.day_unit, self.days[count], self.units)
        return before > 0, since > 0


def read(rollout: Rollout, now: dt.datetime) -> Reading:
    """Everything, in a handful of queries. The rollout must have begun."""
    if rollout.began_at is None:
        raise ValueError("There is no evidence on a rollout that has not begun.")
    origin = rollout.began_at.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    people = rows.members(rollout, plan_of(rollout).retries)
    unit, units = _units(people)
    days = people.known(rows.frame_days(rollout, origin.date(), now.astimezone(dt.UTC).date()))
    history = people.known(rows.history(rollout, origin.date()))
    complaint = _placed(rows.first_complaints(rollout, origin, now), people, unit, units)
    crash = _placed(rows.first_crashes(rollout, origin, now), people, unit, units)
    np.minimum.at(crash, unit, people.failed)
    begun = rollout.began_at.timestamp()
    newest_day = int(days["day"].max()) + 1 if len(days["day"]) else 0
    reach = max(begun, origin.timestamp() + newest_day * rows.DAY_S)
    return Reading(
        rollout=rollout,
        origin=origin,
        now=now,
        members=people,
        unit=unit,
        units=units,
        days=days,
        day_unit=unit[people.place(days["id"])],
        history=history,
        history_unit=unit[people.place(history["id"])],
        complaints=people.known(rows.complaint_history(rollout, origin.date())),
        first={COMPLAINT: complaint, BREAKAGE: crash},
        newest_s=min(reach, float(people.last_seen.max(initial=-np.inf))),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Assigned:
    """Who is what at one stage, by its household's number alone."""

    u: FloatArray
    hardware: IntArray
    share: float
    control_from: float
    targeted: NDArray[np.bool_]

    @property
    def canary(self) -> NDArray[np.bool_]:
        """Meant to have the release by now."""
        return np.asarray(self.u < self.share)


def assigned(reading: Reading, plan: Plan, number: int) -> Assigned:
    """Raises ValueError for a stage that leaves nobody to compare with."""
    control_from = plan.control_from(number)
    if control_from is None:
        raise ValueError(f"Stage {number} leaves nobody to compare with.")
    hardware = reading.least(reading.members.hardware.astype(np.float64)).astype(np.int64)
    targeted = np.bincount(reading.unit, reading.members.targeted, reading.units) > 0
    share = plan.shares()[number - 1]
    return Assigned(reading.least(reading.members.u), hardware, share, control_from, targeted)


def table(reading: Reading, meant: Assigned, policy: Policy) -> Table:
    """The table of a stage: canaries were offered the release and are within its share, controls lie above it."""
    people = reading.members
    offered_h = np.maximum(0.0, reading.hours(reading.least(people.offered)))
    arm = np.full(reading.units, int(Arm.NEITHER))
    arm[meant.u >= meant.control_from] = int(Arm.CONTROL)
    arm[meant.canary & np.isfinite(offered_h)] = int(Arm.CANARY)
    offered_h[arm != Arm.CANARY] = np.inf
    begun = reading.rollout.began_at.timestamp() if reading.rollout.began_at else 0.0
    entered = reading.least(np.where(people.entered <= begun + LATE_S, -np.inf, people.entered))
    first = {name: reading.hours(at) for name, at in reading.first.items()}
    first[DARK] = reading.hours(reading.least(people.dark))
    complaints, complaint_days = _complaint_history(reading)
    frames = Frames(
        hardware=meant.hardware,
        arm=arm,
        offered_h=offered_h,
        entered_h=np.maximum(0.0, reading.hours(entered)),
        left_h=reading.hours(reading.most(people.left)),
        history=_history(reading, policy),
        history_complaints=complaints,
        history_days=complaint_days,
        first_h=first,
    )
    return build(frames, _days(reading, frames, policy), reading.now_h)


def _days(reading: Reading, frames: Frames, policy: Policy) -> Days:
    """Rows of canaries and controls, ascending by unit and day."""
    span = int(reading.now_h // HOURS) + 1
    offer_day = np.where(frames.arm == Arm.CANARY, np.minimum(frames.offered_h, span * HOURS) // HOURS, -1.0)
    unit, day = reading.day_unit, reading.days["day"]
    kept = (frames.arm[unit] != Arm.NEITHER) & (day > offer_day[unit]) & (day < span)
    canary = np.flatnonzero(frames.arm == Arm.CANARY)
    offers = np.unique(offer_day[canary])
    exact = [
        _offer_day(reading, frames, np.isin(reading.unit, canary[offer_day[canary] == number]))
        for number in offers[offers < span]
    ]
    # Column by column, and rows that are left out all into one place past the end: millions are copied seldom.
    size = reading.units * span
    key = np.where(kept, unit * span + day, size)
    exact_key = np.concatenate([np.zeros(0, dtype=np.int64), *(part["unit"] * span + part["day"] for part in exact)])
    filled = np.zeros(size + 1, dtype=np.bool_)
    filled[key] = filled[exact_key] = True
    filled[size] = False
    place = np.flatnonzero(filled)
    rank: IntArray = np.cumsum(filled) - filled
    key, exact_key = rank[key], rank[exact_key]

    @cache
    def summed(name: str) -> FloatArray:
        total = np.bincount(key, reading.days[name], len(place) + 1)[:-1]
        if len(exact_key):
            total += np.bincount(exact_key, np.concatenate([part[name] for part in exact]), len(place))
        return np.asarray(total, dtype=np.float64)

    sums = {
        measure.name: Sums(summed(rows.SUMS[measure.name][0]), summed(rows.SUMS[measure.name][1]))
        for measure in policy.measures
    }
    return Days(
        frame=place // span,
        day=place % span,
        playbacks=summed("playbacks"),
        under_release=summed("under_release"),
        complained=np.minimum(1.0, summed("complaints")),
        sums=sums,
    )


def _offer_day(reading: Reading, frames: Frames, members: NDArray[np.bool_]) -> Columns:
    """What these canaries did after their offer, on its day; all were offered the release on the same day."""
    ids, unit = reading.members.id[members], reading.unit[members]
    offered_h = frames.offered_h[unit]
    number = int(offered_h[0] // HOURS)
    # The very time of the offer, not one that went through hours and back.
    since = reading.least(reading.members.offered)[unit]
    since = np.maximum(since, reading.origin.timestamp())
    found = rows.after_offer(reading.rollout, ids, since, reading.origin.date() + dt.timedelta(days=number))
    place = reading.unit[reading.members.place(found.pop("id"))]
    return {"unit": place, "day": np.full(len(place), number), **found}


def _history(reading: Reading, policy: Policy) -> dict[str, Sums]:
    def summed(name: str) -> FloatArray:
        return np.asarray(np.bincount(reading.history_unit, reading.history[name], reading.units), dtype=np.float64)

    return {
        measure.name: Sums(summed(rows.SUMS[measure.name][0]), summed(rows.SUMS[measure.name][1]))
        for measure in policy.measures
    }


def _complaint_history(reading: Reading) -> tuple[FloatArray, FloatArray]:
    """Days with a complaint, and how many days each unit's past has: since it was enrolled or first heard of."""
    people, origin = reading.members, reading.origin.timestamp()
    past = np.ceil((origin - people.enrolled) / rows.DAY_S)
    for found in (reading.history, reading.complaints):
        np.maximum.at(past, people.place(found["id"]), -found["since"])
    days = np.clip(reading.most(past), 0.0, float(rows.COMPLAINT_DAYS))
    unit = reading.unit[people.place(reading.complaints["id"])]
    complaints = np.bincount(unit, reading.complaints["days"], reading.units)
    return np.minimum(complaints, days), days


def _placed(found: Columns, people: rows.Members, unit: IntArray, units: int) -> FloatArray:
    """The earliest ``at`` of each unit, infinity for none."""
    first = np.full(units, np.inf)
    found = people.known(found)
    np.minimum.at(first, unit[people.place(found["id"])], found["at"])
    return first


def _units(people: rows.Members) -> tuple[IntArray, int]:
    """Each member's unit, numbered in the order of their first members: one home's frames of one hardware."""
    home = np.stack([people.household, people.hardware, people.u.view(np.int64)], axis=1)
    _, first, inverse = np.unique(home, axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)], len(first)
