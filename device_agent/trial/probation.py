"""Probation: counts what a release does while it plays uncommitted, and says when that is enough or too much; and
afterwards whether a committed release crashes film after film.

Playbacks are saved at once, healthy time at most every SAVE_EVERY_S (flash wears out): a power cut costs the minutes
since then. What cannot be saved is kept in memory and tried again; a release that has failed stops playing at once
all the same.
"""

import logging
from collections.abc import Callable

from device_agent.installer.driver import Installer
from device_agent.installer.events import Crashed, Event, FellBack, NotPassed, Progressed, Proved, Steadied, Stopped
from device_agent.installer.machine import MAX_CRASHES, MAX_TRIAL_ATTEMPTS, TRANSITIONS, state_of
from device_agent.installer.slots import Probation, Slot
from device_agent.ports import TrialPolicy
from device_agent.telemetry import sentence
from protocol.errors import Reason
from protocol.messages import Failure

log = logging.getLogger(__name__)

SAVE_EVERY_S = 600.0
SAVE_AGAIN_S = 60.0
"""Wait after the journal could not be saved."""


class Watch:
    """Watches over the release that plays. ``now`` is seconds on the driver's clock, ``whole`` says whether a slot's
    files are there, ``runs`` whether the agent that the playing release wants is the one that runs (else nothing
    counts), ``answered`` whether the backend has answered it since it started."""

    def __init__(
        self,
        installer: Installer,
        policy: TrialPolicy,
        whole: Callable[[Slot], bool] = lambda slot: True,
        *,
        runs: Callable[[], bool] = lambda: True,
        answered: Callable[[], bool] = lambda: True,
    ) -> None:
        self._installer = installer
        self._policy = policy
        self._whole = whole
        self._runs = runs
        self._answered = answered
        self._failure: Failure | None = None
        self._playbacks = 0
        self._healthy_s = 0.0
        """Both not saved yet."""
        self._counted_to: float | None = None
        self._save_at = 0.0
        self._blocked_until: float | None = None
        self._crash = ""
        """What the last film of a committed release died of."""
        self._judge_restarts()

    @property
    def failed(self) -> bool:
        """Whether the release on probation must not play any more, though the journal could not be told yet."""
        return self._failure is not None

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due; 0 when the time is not known yet."""
        probation = self._installer.journal.probation
        if probation is None or not self._counts:
            return None
        if self._counted_to is None:
            return 0.0
        if self._blocked_until is not None:
            return self._blocked_until
        left_s = self._policy.healthy_s - probation.healthy_s - self._healthy_s
        return min(self._save_at, self._counted_to + left_s / self._policy.rate)

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self._installer.journal.probation is None:
            self._forget()
            self._judge_committed()
            return
        if not self._counts:
            return
        if self._counted_to is None:
            self._save_at = now + SAVE_EVERY_S
        else:
            self._healthy_s += max(now - self._counted_to, 0.0) * self._policy.rate
        self._counted_to = now
        self._judge(now)

    def played(self, now: float, release: str, crash: str | None) -> None:
        """A playback with ``release`` has ended; ``crash`` is a sentence when rendering crashed or hung."""
        journal = self._installer.journal
        if journal.probation is None:
            self._played_committed(now, release, crash)
            return
        if journal.target != release:
            return
        if crash is None:
            self._playbacks += 1
        elif self._failure is None:
            self._failure = self._lost(journal.probation, crash)
        self.tick(now)

    def agent_lost(self, why: str) -> bool:
        """The agent of the release that should play was given up: that release does not play any longer. False when
        there is none to fall back to."""
        journal = self._installer.journal
        if journal.probation is None:
            return self._fall_back(why)
        self._failure = self._lost(journal.probation, why)
        self._apply(NotPassed(self._failure), 0.0)
        return True

    def stop(self, now: float) -> None:
        """The agent is about to end in order; the next start will not count as a crash, unless the release has failed
        and not even now the journal can be told."""
        self._blocked_until = None
        self.tick(now)
        probation = self._installer.journal.probation
        if probation is not None and self._failure is None:
            self._apply(Stopped(*self._total(probation)), now)

    def _judge(self, now: float) -> None:
        probation = self._installer.journal.probation
        if probation is None or (self._blocked_until is not None and now < self._blocked_until):
            return
        playbacks, healthy_s = self._total(probation)
        if self._failure is not None:
            # The counts first: the report of the failure says how far probation had come.
            if self._apply(Progressed(playbacks, healthy_s), now):
                self._apply(NotPassed(self._failure), now)
        elif self._installer.journal.changes_agent and self._answered() and not probation.answered:
            if self._apply(Progressed(playbacks, healthy_s, answered=True), now):
                self._judge(now)
        elif self._may_commit and (playbacks >= self._policy.playbacks or healthy_s >= self._policy.healthy_s):
            self._apply(Proved(playbacks, healthy_s), now)
        elif healthy_s >= self._policy.healthy_s:
            self._failure = self._lost(probation, "the agent it brought never got an answer from the backend.")
            self._judge(now)
        elif self._playbacks or now >= self._save_at:
            self._apply(Progressed(playbacks, healthy_s), now)

    def _played_committed(self, now: float, release: str, crash: str | None) -> None:
        journal = self._installer.journal
        if journal.committed is None or journal.committed.release != release or (crash is None and not journal.crashes):
            return
        if not self._runs():
            return  # what crashes under an agent that it was not made for is not its fault
        self._crash = crash or ""
        try:
            self._installer.apply(Steadied() if crash is None else Crashed())
        except OSError as error:  # only this film is not counted
            log.error("The journal cannot be saved: %s", error)
        self.tick(now)

    def _judge_committed(self) -> None:
        journal = self._installer.journal
        if journal.crashes < MAX_CRASHES:
            return
        said = f"{journal.crashes} films in a row crashed, so the release committed before plays again"
        said += f": {self._crash}" if self._crash else "."  # what happened before the last start is not kept
        self._fall_back(said)

    def _fall_back(self, why: str) -> bool:
        journal = self._installer.journal
        before = journal.before
        if FellBack not in TRANSITIONS[state_of(journal)] or before is None or not self._whole(before):
            return False  # an installation under way comes first: it may be the remedy
        try:
            self._installer.apply(FellBack(Failure(reason=Reason.TRIAL_FAILED, detail=sentence(why))))
        except OSError as error:
            log.error("The journal cannot be saved: %s", error)
            return False
        return True

    def _judge_restarts(self) -> None:
        probation = self._installer.journal.probation
        if probation is None or probation.restarts < MAX_TRIAL_ATTEMPTS:
            return
        said = f"The agent was cut off {probation.restarts} times without a playback: the release may bring it down."
        self._failure = self._lost(probation, said)
        self._apply(NotPassed(self._failure), 0.0)

    @property
    def _counts(self) -> bool:
        """A failure is told whatever runs; playbacks and time are the wanted agent's alone."""
        return self._failure is not None or self._runs()

    @property
    def _may_commit(self) -> bool:
        """An agent that nobody can talk to any more could never be mended from afar, so the backend must have answered
        a new one. Releases without one may be committed in a house without a network."""
        journal = self._installer.journal
        return not journal.changes_agent or (journal.probation is not None and journal.probation.answered)

    def _lost(self, probation: Probation, why: str) -> Failure:
        playbacks, healthy_s = self._total(probation)
        after = f"On probation, after {playbacks} playbacks and {healthy_s / 3_600:.1f} healthy hours: {why}"
        blank = " The frame is blank again." if self._installer.journal.committed is None else ""
        return Failure(reason=Reason.TRIAL_FAILED, detail=sentence(after + blank))

    def _total(self, probation: Probation) -> tuple[int, float]:
        return probation.playbacks + self._playbacks, probation.healthy_s + self._healthy_s

    def _apply(self, event: Event, now: float) -> bool:
        try:
            self._installer.apply(event)
        except OSError as error:
            log.error("The journal cannot be saved: %s", error)
            self._blocked_until = now + SAVE_AGAIN_S
            return False
        self._blocked_until = None
        self._playbacks, self._healthy_s, self._save_at = 0, 0.0, now + SAVE_EVERY_S
        if self._installer.journal.probation is None:
            self._forget()
        return True

    def _forget(self) -> None:
        self._failure, self._counted_to, self._blocked_until = None, None, None
        self._playbacks, self._healthy_s = 0, 0.0
