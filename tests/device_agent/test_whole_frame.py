"""The whole core, in any order of offers, films, crashes, cuts and full disks: what plays is whole, and only what has
proved itself is committed."""

import errno
import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from device_agent.installer.slots import Journal
from device_agent.ports import TrialPolicy, TrialReport
from device_agent.storage.journal import MemoryJournal
from protocol.errors import Reason
from protocol.messages import Failure
from tests.device_agent.frame import FRAME, MEASURED, Frame
from tests.device_agent.repository import Published, Repository, desired

POLICY = TrialPolicy(playbacks=3, healthy_s=86_400.0)
HOUR_S = 3_600.0
MISSED = Failure(reason=Reason.TRIAL_FAILED, detail="The lips are off.")

REPOSITORY = Repository()
BASE = REPOSITORY.base(b"model" * 100)
RELEASES = [
    REPOSITORY.release("portrait", f"1.{number}", [BASE, REPOSITORY.adapter(b"%d" % number * 100, BASE, f"1.{number}")])
    for number in range(3)
]


class Disk(MemoryJournal):
    """A journal on a disk that may be full."""

    full = False

    def save(self, journal: Journal) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().save(journal)


class WholeFrame(RuleBasedStateMachine):
    """``films`` and ``began`` count what a release may have shown since it was offered last."""

    @initialize()
    def born(self) -> None:
        self.frame = Frame(REPOSITORY.retained, REPOSITORY.anchors(), policy=POLICY)
        self.disk = self.frame.journal_port = Disk()
        self.frame.boot()
        self.frame.connect()
        self.version = 0
        self.films: dict[str, int] = {}
        self.began: dict[str, float] = {}
        self.proved: set[str] = set()

    @property
    def playing(self) -> str | None:
        playing = self.frame.core.playing
        return None if playing is None else playing.release

    @property
    def committed(self) -> str | None:
        committed = self.frame.core.journal.committed
        return None if committed is None else committed.release

    @rule(release=st.sampled_from([*RELEASES, None]), passes=st.booleans())
    def offer(self, release: Published | None, passes: bool) -> None:
        self.version += 1
        again = release is not None and release.release.sha256 in (self.playing, self.committed)
        self.frame.trial.report = TrialReport(MEASURED, None if passes else MISSED)
        self.frame.give(REPOSITORY.envelope(desired(FRAME, self.version, release)))
        if release is not None and not again:
            self.films[release.release.sha256] = 0
            self.began[release.release.sha256] = self.frame.now

    @rule(release=st.sampled_from(RELEASES))
    def film(self, release: Published) -> None:
        digest = release.release.sha256
        self.films[digest] = self.films.get(digest, 0) + 1
        self.frame.run(self.frame.core.played(self.frame.now, digest))

    @precondition(lambda self: self.playing is not None)
    @rule()
    def crash(self) -> None:
        playing, committed, before = self.playing, self.committed, self.frame.core.journal.before
        assert playing is not None
        self.frame.run(self.frame.core.played(self.frame.now, playing, "The renderer hung."))
        if playing != committed:
            assert self.playing == committed, "what is on probation stops at once"
        elif self.playing != committed:
            assert before is not None
            assert self.playing == before.release, "what was committed plays on, or the one before it does"

    @rule(hours=st.sampled_from([0.01, 1.0, 20.0]))
    def time_passes(self, hours: float) -> None:
        self.frame.wait(hours * HOUR_S)

    @rule(in_order=st.booleans())
    def restart(self, in_order: bool) -> None:
        if in_order:
            self.frame.core.stop(self.frame.now)
        before = self.committed
        self.frame.boot()
        assert self.committed == before
        self.frame.connect()

    @rule()
    def cable(self) -> None:
        self.frame.disconnect()
        self.frame.connect()

    @rule()
    def disk_fills_up_or_is_freed(self) -> None:
        self.disk.full = not self.disk.full

    @rule()
    def in_the_end_it_does_what_it_should(self) -> None:
        self.disk.full = False
        self.version += 1
        self.frame.trial.report = TrialReport(MEASURED)
        self.frame.give(REPOSITORY.envelope(desired(FRAME, self.version, RELEASES[0])))
        self.frame.wait(25 * HOUR_S)
        assert (self.frame.core.journal.state, self.committed) == ("committed", RELEASES[0].release.sha256)

    @invariant()
    def what_plays_is_whole(self) -> None:
        for slot in (self.frame.core.playing, self.frame.core.journal.committed):
            assert slot is None or all(self.frame.store.has(name) for name in slot.files())
        assert self.playing in (self.committed, self.frame.core.journal.target)

    @invariant()
    def only_what_proved_itself_is_committed(self) -> None:
        committed = self.committed
        if committed is not None and committed in self.began and committed not in self.proved:
            healthy = self.frame.now - self.began[committed]
            assert self.films[committed] >= POLICY.playbacks or healthy >= POLICY.healthy_s - 1
            self.proved.add(committed)


TestWholeFrame = WholeFrame.TestCase
TestWholeFrame.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
