"""Which households need a fix: segments of the fleet by how much more they complain than the rest.

A frame belongs to a segment by what it is (locale, hardware, site, time zone, agent), by the release it runs, if most
of its playbacks in these days were under it, and by the context of its playbacks, as groups mean it (``fleet.groups``).
All complaint-days and playbacks of the frame count: what is shown is what a rollout to that segment can change.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from django.db import connection
from numpy.typing import NDArray

from fleet.groups import CONTEXT_DAYS, MAX_QUERY, frames_in, parse_query
from fleet.models import Frame, FrameGroup
from ota.domain.analysis.policy import Policy
from ota.domain.analysis.triage import Segment, SegmentExcess, crossed, rank
from ota.selectors import release_names
from protocol.errors import Reason, Refused
from protocol.messages import CONTEXTS

MAX_DAYS = 90
MAX_VALUES = 40
"""Values of one key that are compared, those of most frames: with more, real excesses drown in the correction."""
CROSSED = (("locale", "pose"), ("locale", "loudness"), ("locale", "hardware"))
BOTH = " & "
"""Between two conditions of a segment, as ``triage.crossed`` writes them."""
FACTS = ("locale", "hardware", "site", "timezone", "agent")
_PLAIN = re.compile(r"[^,=\0]+")
"""What a group's query can ask for."""

_WORDS = [(key, value) for key, values in CONTEXTS.items() for value in values]
# Both texts are made of this module's and the protocol's constants alone.
_DAYS_SQL = """
    SELECT d.frame_id, sum(d.playbacks), count(DISTINCT d.day) FILTER (WHERE d.complaints > 0),
        coalesce(sum(d.playbacks) FILTER (WHERE d.release = r.release), 0)
    FROM fleet_frameday AS d LEFT JOIN fleet_reportedstate AS r ON r.frame_id = d.frame_id
    WHERE d.day BETWEEN %s AND %s GROUP BY d.frame_id
"""
_CONTEXT_SQL = (
    "SELECT frame_id, "  # noqa: S608
    + ", ".join(
        f"coalesce(sum(playbacks) FILTER (WHERE strpos(context, '{key}={value}') > 0), 0)" for key, value in _WORDS
    )
    + " FROM fleet_contextday WHERE day >= %s GROUP BY frame_id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRow:
    """One segment against the rest, as ``ota.domain.analysis.triage`` says it.

    ``key`` and ``value`` name it: "locale", "zh"; with two conditions "locale & pose", "zh & turned"; releases by name.
    ``query`` is what a group asks for to mean its frames, None where no query can. ``simulated`` of its frames are.
    Rates are complaint-days per playback; ``high`` is None where the interval has no upper end.
    """

    key: str
    value: str
    query: str | None
    frames: int
    simulated: int
    playbacks: int
    complaints: int
    rate: float
    rest_rate: float
    ratio: float
    low: float
    high: float | None
    q_value: float
    notable: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Fleet:
    """Frames and what they did; all of one length. ``words`` is (frames, words of _WORDS): playbacks."""

    facts: dict[str, NDArray[np.object_]]
    simulated: NDArray[np.bool_]
    playbacks: NDArray[np.float64]
    complaints: NDArray[np.float64]
    words: NDArray[np.float64]


def segments(
    days: int, now: datetime, group: FrameGroup | None = None, policy: Policy | None = None
) -> list[SegmentRow]:
    """Segments of the frames in service (of a group's) over the last ``days`` days, those that surely complain most
    first; those too small to say anything are left out. Raises Refused with one sentence."""
    if not 1 <= days <= MAX_DAYS:
        raise Refused(Reason.BAD_MESSAGE, f"Compare 1 to {MAX_DAYS} days, not {days}.")
    policy = policy or Policy()
    fleet = _read(now.date() - timedelta(days=days - 1), now.date(), group)
    found = [*_by_facts(fleet, policy), *_by_context(fleet, policy)]
    for first, second in CROSSED:
        found += crossed(found, first, second, policy)
    ranked = rank(found, fleet.complaints, fleet.playbacks, policy)
    names = release_names(row.value for row in ranked if row.key == "release")
    frames_of = {(one.key, one.value): one.frames for one in found}
    given = parse_query(group.query) if group is not None else {}
    return [
        _row(row, names.get(row.value, row.value), given, int(fleet.simulated[frames_of[row.key, row.value]].sum()))
        for row in ranked
    ]


def _read(first: date, last: date, group: FrameGroup | None) -> _Fleet:
    frames = frames_in(group) if group is not None else Frame.objects.filter(lifecycle=Frame.Lifecycle.ACTIVE)
    columns = (
        "id",
        "simulated",
        "reported__release",
        *("agent_version" if name == "agent" else name for name in FACTS),
    )
    rows: list[tuple[Any, ...]] = list(frames.order_by("id").values_list(*columns))
    place = {row[0]: number for number, row in enumerate(rows)}
    sums = np.zeros((len(rows), 3))
    words = np.zeros((len(rows), len(_WORDS)))
    with connection.cursor() as cursor:
        cursor.execute(_DAYS_SQL, [first, last])
        _fill(sums, place, cursor.fetchall())
        cursor.execute(_CONTEXT_SQL, [last - timedelta(days=CONTEXT_DAYS)])
        _fill(words, place, cursor.fetchall())
    facts = {name: np.array([row[3 + at] for row in rows], dtype=object) for at, name in enumerate(FACTS)}
    mostly = sums[:, 2] * 2 >= sums[:, 0]
    facts["release"] = np.array(
        [(row[2] or "") if most else "" for row, most in zip(rows, mostly, strict=True)], dtype=object
    )
    return _Fleet(facts, np.array([row[1] for row in rows], dtype=bool), sums[:, 0], sums[:, 1], words)


def _fill(into: NDArray[np.float64], place: dict[str, int], rows: Sequence[tuple[Any, ...]]) -> None:
    known = [row for row in rows if row[0] in place]
    if known:
        into[[place[row[0]] for row in known]] = np.array([row[1:] for row in known], dtype=np.float64)


def _by_facts(fleet: _Fleet, policy: Policy) -> Iterator[Segment]:
    for key, values in fleet.facts.items():
        if not len(values):
            continue
        texts, number, count = np.unique(values.astype(str), return_inverse=True, return_counts=True)
        largest = [at for at in np.argsort(-count, kind="stable") if texts[at] and count[at] >= policy.segment_frames]
        for at in largest[:MAX_VALUES]:
            yield Segment(key, str(texts[at]), np.flatnonzero(number == at))


def _by_context(fleet: _Fleet, policy: Policy) -> Iterator[Segment]:
    for key, values in CONTEXTS.items():
        columns = [_WORDS.index((key, value)) for value in values]
        told = fleet.words[:, columns].sum(axis=1)
        for value, column in zip(values, columns, strict=True):
            had = fleet.words[:, column]
            frames = np.flatnonzero((had > 0) & (had * 2 >= told))
            if len(frames) >= policy.segment_frames:
                yield Segment(key, value, frames)


def _row(row: SegmentExcess, value: str, given: dict[str, list[str | bool]], simulated: int) -> SegmentRow:
    return SegmentRow(
        key=row.key,
        value=value,
        query=_query(row.key, value, given),
        frames=row.frames,
        simulated=simulated,
        playbacks=row.playbacks,
        complaints=row.complaints,
        rate=row.rate,
        rest_rate=row.rest_rate,
        ratio=row.ratio,
        low=row.low,
        high=row.high,
        q_value=row.q_value,
        notable=row.notable,
    )


def _query(key: str, value: str, given: dict[str, list[str | bool]]) -> str | None:
    """The group's own terms and the segment's, which stand instead of the group's where the key is the same."""
    keys = key.split(BOTH)
    values = value.split(BOTH) if len(keys) > 1 else [value]
    own = dict(zip(keys, values, strict=False))
    if len(keys) != len(values) or not all(_PLAIN.fullmatch(one) for one in own.values()):
        return None
    kept = [
        (name, str(one).lower() if isinstance(one, bool) else one)
        for name in given
        if name not in own
        for one in given[name]
    ]
    query = ",".join(f"{name}={one}" for name, one in [*kept, *own.items()])
    return query if len(query) <= MAX_QUERY else None
