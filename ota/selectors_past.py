"""The last weeks of some frames, as the table from which ``ota.domain.analysis.power`` learns how they vary."""

import datetime as dt
from collections.abc import Sequence

import numpy as np

from ota.domain.analysis.table import HOURS, Arm, Days, FloatArray, Frames, IntArray, Sums, Table, build
from ota.services.copied import Columns, copied
from ota.services.evidence_rows import BASELINE_DAYS, SUMS

SAMPLE = 100_000
"""Frames that are read at most: with more, a rollout is decided as soon as its dwell is over anyway."""


def past_of(frames: Sequence[tuple[str, str, str]], now: dt.datetime) -> Table:
    """What these frames (id, household, hardware) did on the whole days (UTC) of the last four weeks, or since the
    first of those days on which any of them did something. Of more than SAMPLE frames, the first are read; a household
    with frames of one hardware is one entry. A table of 0 hours where nothing is known."""
    some = frames[:SAMPLE]
    today = now.astimezone(dt.UTC).date()
    units: dict[tuple[str, str], int] = {}
    unit = np.array([units.setdefault((household, kind), len(units)) for _, household, kind in some], dtype=np.int64)
    found = _read([frame_id for frame_id, _, _ in some], today)
    first = int(found["day"].min()) if len(found["day"]) else BASELINE_DAYS
    span = BASELINE_DAYS - first
    kinds = {kind: number for number, kind in enumerate(sorted({kind for _, kind in units}))}
    hardware = np.array([kinds[kind] for _, kind in units], dtype=np.int64)
    entered = _entered(found, unit, len(units), first)
    return build(_frames(hardware, entered), _days(found, unit, first, span), span * HOURS)


def _read(ids: list[str], today: dt.date) -> Columns:
    """Rows of FrameDay, day 0 being four weeks before today; ``place`` says whose."""
    sums = ", ".join(f"f.{column}::float8" for pair in SUMS.values() for column in pair)
    return copied(
        f"SELECT g.place, f.day - %(first)s::date, f.complaints, {sums} "  # noqa: S608
        "FROM unnest(%(ids)s::text[]) WITH ORDINALITY AS g (frame_id, place) JOIN fleet_frameday f USING (frame_id) "
        "WHERE f.day >= %(first)s AND f.day < %(today)s",
        {"ids": ids, "first": today - dt.timedelta(days=BASELINE_DAYS), "today": today},
        {"place": "int8", "day": "int4", "complaints": "int4"}
        | {column: "float8" for pair in SUMS.values() for column in pair},
    )


def _entered(found: Columns, unit: IntArray, units: int, first: int) -> FloatArray:
    """Hours from the first day on after which each is known: its own first day, where that is more than a week in (a
    frame may well play nothing for some days)."""
    own = np.full(units, float(first))
    if len(found["day"]):
        own[:] = np.inf
        np.minimum.at(own, unit[found["place"] - 1], found["day"].astype(np.float64))
    since = own - first
    return np.where(np.isfinite(since) & (since > 7), since * HOURS, 0.0)


def _frames(hardware: IntArray, entered: FloatArray) -> Frames:
    none = np.zeros(len(hardware))
    return Frames(
        hardware=hardware,
        arm=np.full(len(hardware), int(Arm.CONTROL)),
        offered_h=np.full(len(hardware), np.inf),
        entered_h=entered,
        left_h=np.full(len(hardware), np.inf),
        history={},
        history_complaints=none,
        history_days=none.copy(),
        first_h={},
    )


def _days(found: Columns, unit: IntArray, first: int, span: int) -> Days:
    """One row for each entry and day, releases and frames of a household summed."""
    key = unit[found["place"] - 1] * max(1, span) + found["day"] - first
    pairs, where = np.unique(key, return_inverse=True)

    def summed(column: str) -> FloatArray:
        return np.bincount(where, weights=found[column], minlength=len(pairs)).astype(np.float64)

    return Days(
        frame=pairs // max(1, span),
        day=pairs % max(1, span),
        playbacks=summed("playbacks"),
        under_release=np.zeros(len(pairs)),
        complained=np.minimum(summed("complaints"), 1.0),
        sums={
            name: Sums(summed(total), summed(count))
            for name, (total, count) in SUMS.items()
            if len(pairs) and bool(found[count].any())
        },
    )
