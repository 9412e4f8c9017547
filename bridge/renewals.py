"""Which frames are told to ask for a new certificate: at every hello, and now and then those that never leave.

Looking it up costs a query, which acknowledging telemetry must not pay every time.
"""

import logging
import time
from collections.abc import Callable

from fleet.services.certificates import should_renew

log = logging.getLogger(__name__)

EVERY_S = 600.0
MOST = 100_000
"""Frames remembered; beyond it everything is forgotten and looked up again."""


class Renewals:
    """Remembers when each frame was last looked up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked: dict[str, float] = {}

    def told(self, greeted: set[str], others: set[str]) -> set[str]:
        """Of the frames that said hello, and of those others whose turn it is, the ones that should renew."""
        now = self._clock()
        due = greeted | {one for one in others if now - self._looked.get(one, float("-inf")) >= EVERY_S}
        if not due:
            return set()
        if len(self._looked) + len(due) > MOST:
            self._looked.clear()
        self._looked.update(dict.fromkeys(due, now))
        try:
            return should_renew(sorted(due))
        except (OSError, ValueError) as error:  # the CA's files: telemetry must not wait for them
            log.error("Nobody is told to renew a certificate: the fleet CA cannot be read (%s)", error)
            return set()
