"""Taking in the days before a demonstration, of simulated frames alone (``python -m simulator history`` wrote them).

Days that frames have already are left as they are, so taking the same file in again changes nothing.
"""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path

import msgspec
from django.db import connection, transaction

from fleet import clock
from fleet.contexts import context_text
from fleet.services.audit import audit
from protocol.errors import Reason, Refused
from protocol.history import Day, Head
from protocol.messages import CONTEXTS

MAX_LINE = 4_096
MAX_LINES = 20_000_000
_FIRST = date(1970, 1, 1)

_DAYS = "frame_id, day, release, playbacks, completed, complaints, power_sum_w, power_samples"
_CONTEXTS = "frame_id, day, context, release, playbacks, completed, complaints"
_ZEROS = "latency_log_sum, latency_samples, fps_log_sum, fps_samples"
_PREPARE = """
    DROP TABLE IF EXISTS staged_day, staged_context;
    CREATE TEMP TABLE staged_day (frame_id varchar, day date, release varchar, playbacks int, completed int,
        complaints int, power_sum_w float8, power_samples int) ON COMMIT DROP;
    CREATE TEMP TABLE staged_context (frame_id varchar, day date, context varchar, release varchar,
        playbacks int, completed int, complaints int) ON COMMIT DROP;
"""
_INSERT_DAYS = f"""
    INSERT INTO fleet_frameday ({_DAYS}, {_ZEROS})
    SELECT {_DAYS}, 0, 0, 0, 0 FROM staged_day ORDER BY day, frame_id ON CONFLICT DO NOTHING
"""  # noqa: S608  constants of this module
_INSERT_CONTEXTS = f"""
    INSERT INTO fleet_contextday ({_CONTEXTS})
    SELECT {_CONTEXTS} FROM staged_context ORDER BY day, frame_id ON CONFLICT DO NOTHING
"""  # noqa: S608  constants of this module
_NOT_SIMULATED = """
    SELECT DISTINCT s.frame_id FROM staged_day s LEFT JOIN fleet_frame f ON f.id = s.frame_id
    WHERE f.simulated IS NOT TRUE ORDER BY s.frame_id LIMIT 1
"""


def load_history(path: Path, actor: str) -> int:
    """Take in the file, all or nothing; returns how many frame-days are new.

    Raises Refused with one sentence when the file is none of the simulator's, names a frame that is not enrolled as
    simulated, or a day that is not over; OSError when it cannot be read.
    """
    decoder = msgspec.json.Decoder(Day)
    with path.open("rb") as file:
        head = _head(file.readline(MAX_LINE))
        _check_days(head)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_PREPARE)
            contexts: list[tuple[object, ...]] = []
            with cursor.copy(f"COPY staged_day ({_DAYS}) FROM STDIN") as copy:
                for day in _days(iter(lambda: file.readline(MAX_LINE), b""), decoder, head):
                    at = _date(day.day)
                    power = (day.power_sum_w, day.power_samples)
                    copy.write_row((day.frame, at, head.release, day.playbacks, day.completed, day.complaints, *power))
                    for c in day.contexts:
                        sums = (c.playbacks, c.completed, c.complaints)
                        contexts.append((day.frame, at, context_text(c.words), head.release, *sums))
            cursor.execute(_NOT_SIMULATED)
            if odd := cursor.fetchone():
                raise _refused(f"{odd[0]} is not enrolled as a simulated frame: only such frames take a history in")
            with cursor.copy(f"COPY staged_context ({_CONTEXTS}) FROM STDIN") as copy:
                for context in contexts:
                    copy.write_row(context)
            cursor.execute(_INSERT_DAYS)
            new = int(cursor.rowcount)
            cursor.execute(_INSERT_CONTEXTS)
            detail = {"seed": head.seed, "first": str(_date(head.first_day)), "days": head.days}
            audit(actor, "simulated_history", f"{head.frames} frames", detail)
    with connection.cursor() as cursor:  # what reads the table next reads it through good plans
        cursor.execute("ANALYZE fleet_frameday; ANALYZE fleet_contextday")
    return new


def _head(line: bytes) -> Head:
    try:
        return msgspec.json.decode(line, type=Head)
    except msgspec.DecodeError as error:
        raise _refused(f"The file does not begin as `python -m simulator history` writes it ({error})") from None


def _check_days(head: Head) -> None:
    last = _date(head.first_day + head.days - 1)
    if last >= clock.now().date():
        raise _refused(f"The history ends on {last}, which is not over yet: make it for the clock of this backend")


def _days(lines: Iterable[bytes], decoder: msgspec.json.Decoder[Day], head: Head) -> Iterator[Day]:
    for number, line in enumerate(lines, start=2):
        try:
            day = decoder.decode(line)
        except msgspec.DecodeError as error:
            raise _refused(f"Line {number} of the history cannot be read ({error})") from None
        if number > MAX_LINES:
            raise _refused(f"The history has more than {MAX_LINES} lines: write fewer days")
        if not head.first_day <= day.day < head.first_day + head.days:
            raise _refused(f"Line {number} of the history is about a day that its first line does not name")
        for key, value in (word for context in day.contexts for word in context.words.items()):
            if value not in CONTEXTS.get(key, ()):
                raise _refused(f"Line {number} of the history has the context {key}={value}, which nobody knows")
        yield day


def _date(number: int) -> date:
    return _FIRST + timedelta(days=number)


def _refused(sentence: str) -> Refused:
    return Refused(Reason.BAD_MESSAGE, f"{sentence}.")
