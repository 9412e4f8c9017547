"""Whether two agents speak by turns under one name: what the sessions in their hellos give away. Pure, times in ms.

An agent draws a session at every start, so A then B is a restart, and A then B then A are two frames with one identity
(or one whose storage was copied). What looks like that and is none:

- a hello that a broker delivers again, or that waited for a bridge that was away: the caller leaves those out;
- the last words of an agent that has ended, which a stalled network delivers after its successor's first. A broker
  drops a silent connection after one and a half keepalives (90 s), so nothing arrives later than STALE_MS after a
  successor was first heard. Before that, who is older cannot be told.

So a return within STALE_MS says nothing; a return to a session which had itself been heard for less than that before
the other one came is a doubt; any other return, and a second doubt, is a clone. Sessions are forgotten FORGET_MS after
they were last heard.
"""

from typing import Any

from msgspec import Struct, convert, to_builtins

STALE_MS = 180_000
FORGET_MS = 24 * 3_600_000
MAX_SESSIONS = 32
REFRESH_MS = 3_600_000
"""A session that goes on is written down again this often; the last heard time need not be finer."""


class Heard(Struct, frozen=True):
    """When one session was first and last heard."""

    first: int
    last: int


class Sessions(Struct, frozen=True):
    """One frame's sessions of the last day. ``since`` is when ``current`` took over; ``doubted`` when a return was seen
    that may have another reason, 0 for never."""

    current: str = ""
    since: int = 0
    doubted: int = 0
    seen: dict[str, Heard] = {}


def hear(known: Sessions, session: str, now: int) -> tuple[Sessions, bool]:
    """The sessions after a hello at ``now``, and whether it shows a clone. The same object when nothing changes."""
    before = known.seen.get(session)
    if session == known.current and before is not None:
        if now - before.last < REFRESH_MS:
            return known, False
        return _with(known, session, before, now, known.doubted), False
    if before is None or now - before.last > FORGET_MS:
        return _taken_over(known, session, Heard(now, now), now, known.doubted), False
    if now - known.since < STALE_MS:
        return known, False  # perhaps its last words: who is current stays so
    other = known.seen.get(known.current, before)
    doubt = other.first - before.first < STALE_MS
    is_clone = not doubt or known.doubted > 0
    doubted = now if doubt else known.doubted
    return _taken_over(known, session, Heard(before.first, now), now, doubted), is_clone


def from_json(data: Any) -> Sessions:
    """What ``to_json`` made; nothing known when it is something else."""
    try:
        return convert(data, Sessions)
    except ValueError:
        return Sessions()


def to_json(known: Sessions) -> Any:
    """For a JSON column."""
    return to_builtins(known)


def _taken_over(known: Sessions, session: str, heard: Heard, now: int, doubted: int) -> Sessions:
    return _with(Sessions(session, now, doubted, known.seen), session, heard, now, doubted)


def _with(known: Sessions, session: str, heard: Heard, now: int, doubted: int) -> Sessions:
    kept = {name: one for name, one in known.seen.items() if now - one.last <= FORGET_MS and name != session}
    newest = sorted(kept.items(), key=lambda item: item[1].last)[-(MAX_SESSIONS - 1) :]
    doubted = doubted if now - doubted <= FORGET_MS else 0
    return Sessions(session, known.since, doubted, {**dict(newest), session: Heard(heard.first, now)})
