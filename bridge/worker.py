"""The thread between inbox and database: gathers messages, stores them, and only then answers and acknowledges."""

import logging
import threading
import time

from django.db import Error, connection

from bridge.inbox import Inbox, Message
from bridge.link import Link
from bridge.routes import Answer, Work, is_databases_fault, perform

log = logging.getLogger(__name__)

GATHER_S = 0.2
GATHER_EVENTS = 2_000
GATHER_MESSAGES = 1_000
FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0


class Worker:
    """``run`` until ``stop`` is set; what is in the inbox then is still worked off, up to ``deadline``."""

    def __init__(self, inbox: Inbox, link: Link, stop: threading.Event) -> None:
        self._inbox = inbox
        self._link = link
        self._stop = stop
        self._deadline = float("inf")

    def drain_until(self, deadline: float) -> None:
        """From now on work only until this moment (``time.monotonic``)."""
        self._deadline = deadline

    def run(self) -> None:
        """The thread's body."""
        while not self._stop.is_set() or time.monotonic() < self._deadline:
            gathered, work = self._gather()
            if not gathered:
                if self._stop.is_set():
                    return
                continue
            answers = self._store(work, gathered)
            if answers is None:
                continue
            for message in gathered:
                self._link.acknowledge(message)
            for answer in answers:
                self._link.answer(answer.topic, answer.payload)

    def _gather(self) -> tuple[list[Message], Work]:
        """What comes within GATHER_S of the first message, or fewer when that is a lot already."""
        gathered: list[Message] = []
        work = Work()
        until = time.monotonic() + GATHER_S
        while len(gathered) < GATHER_MESSAGES and work.events < GATHER_EVENTS:
            patience = GATHER_S if not gathered else until - time.monotonic()
            message = self._inbox.take(patience) if patience > 0 else None
            if message is None:
                break
            if not gathered:
                until = time.monotonic() + GATHER_S
            gathered.append(message)
            work.add(message)
        return gathered, work

    def _store(self, work: Work, gathered: list[Message]) -> list[Answer] | None:
        """Try until the database has it. None when there is nothing to acknowledge: the connection to the broker has
        been lost meanwhile (it delivers again), or the bridge stops."""
        backoff = FIRST_BACKOFF_S
        while True:
            try:
                return perform(work)
            except Error as error:
                if not is_databases_fault(error):
                    raise
                log.warning("The database cannot take %d messages in (%s); trying again", len(gathered), _first(error))
            connection.close()
            self._stop.wait(backoff)
            if self._stop.is_set():
                time.sleep(FIRST_BACKOFF_S)
            backoff = min(MAX_BACKOFF_S, backoff * 2)
            if time.monotonic() >= self._deadline or not self._inbox.is_current(gathered[-1]):
                return None


def _first(error: Exception) -> str:
    """The first line of what the database says."""
    return str(error).strip().partition("\n")[0]
