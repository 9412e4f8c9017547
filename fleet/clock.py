"""Now, as people and rollouts live it.

Real time, unless the setting ``FRAMEFLEET_PEOPLE_CLOCK`` lets simulated people's days pass in seconds. Only what
concerns people is told by it: telemetry, last contact, stages and their dwell. Security time (certificates, TUF
documents, DesiredStates, tokens, the audit log) is always real and asks ``django.utils.timezone``.
"""

import logging
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.utils import timezone

from protocol.clock import PeopleClock

log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def now() -> datetime:
    """This moment; aware, UTC."""
    real = timezone.now()
    clock = _people_clock()
    return real if clock is None else _EPOCH + timedelta(milliseconds=clock.at((real - _EPOCH) // _MILLISECOND))


def really(since: datetime, until: datetime) -> timedelta:
    """How long it really took from one moment of people's time to another."""
    clock = _people_clock()
    if clock is None:
        return until - since
    began, ended = (clock.real((moment - _EPOCH) // _MILLISECOND) for moment in (since, until))
    return (ended - began) * _MILLISECOND


def is_hurried() -> bool:
    """Whether days pass faster than they really do."""
    return _people_clock() is not None


def warn_if_hurried() -> None:
    """Say so, when this process does not live in real time."""
    if clock := _people_clock():
        log.warning(
            "FRAMEFLEET_PEOPLE_CLOCK is set: a day takes %g seconds here, for a demonstration with simulated people. "
            "Never set it where real frames are.",
            clock.day_seconds,
        )


def _people_clock() -> PeopleClock | None:
    found = settings.FRAMEFLEET_PEOPLE_CLOCK
    return found if isinstance(found, PeopleClock) else None
