"""Offers, films, crashes, kills, cuts and failing disks in any order: the frame always plays what was committed or is
on probation, whole, and does in the end what is desired."""

import errno
import os
import random
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from device_agent.storage.disk import using
from device_agent.storage.journal import FileJournal
from tests.device_agent.powercut.model import Chance, healthy
from tests.device_agent.powercut.story import backend, releases
from tests.device_agent.powercut.world import (
    ROOT,
    Frame,
    Truth,
    born,
    require_good,
    require_settled,
    require_whole,
)

SEEDS = st.integers(0, 2**32)


class AnyOrder(RuleBasedStateMachine):
    """One frame from its birth on. ``frame`` is None while a disk that fails keeps the agent from starting."""

    @initialize()
    def birth(self) -> None:
        self.disk, self.backend, self.truth = born(releases().repository), backend(), Truth()
        self.frame: Frame | None = None
        self.start()

    def start(self) -> None:
        with using(self.disk):
            before = self.truth.copy()
            found = FileJournal(ROOT / "journal.json").read()
            try:
                self.frame = Frame(self.disk, self.backend, self.truth)
            except OSError:
                self.frame = None
                return
            if found is not None and self.disk.before is healthy:
                require_good(self.frame, found, before)
            self.frame.connect()

    @property
    def running(self) -> bool:
        return self.frame is not None

    def awake(self) -> Frame:
        assert self.frame is not None
        return self.frame

    @precondition(lambda self: self.running)
    @rule(which=st.sampled_from(["first", "fix", "bad", "other", None]))
    def offer(self, which: str | None) -> None:
        with using(self.disk):
            self.awake().offer(None if which is None else getattr(releases(), which))

    @precondition(lambda self: self.running)
    @rule(crash=st.sampled_from([None, None, None, "The renderer hung."]))
    def film(self, crash: str | None) -> None:
        with using(self.disk):
            self.awake().play(crash)

    @precondition(lambda self: self.running)
    @rule(seconds=st.sampled_from([1.0, 700.0, 40_000.0]))
    def time_passes(self, seconds: float) -> None:
        with using(self.disk):
            self.awake().wait(seconds)

    @precondition(lambda self: self.running)
    @rule()
    def note(self) -> None:
        with using(self.disk):
            self.awake().note(f"at {self.awake().now}")

    @rule()
    def kill(self) -> None:
        """The process ends; its disk keeps what was written, synced or not."""
        self.disk = self.disk.frozen()
        self.start()

    @rule(kind=st.sampled_from(["none", "all", "names", "some", "some"]), seed=SEEDS)
    def cut(self, kind: str, seed: int) -> None:
        self.disk = self.disk.after_cut(Chance(kind, random.Random(seed)))
        self.start()

    @rule(seed=SEEDS, code=st.sampled_from([errno.EIO, errno.ENOSPC]))
    def disk_begins_to_fail(self, seed: int, code: int) -> None:
        rng = random.Random(seed)

        def fails(operation: str, path: Path) -> None:
            if rng.random() < 0.1 and not (code == errno.ENOSPC and operation in ("unlink", "truncate")):
                raise OSError(code, os.strerror(code), f"{operation} {path}")

        self.disk.before = fails

    @rule()
    def disk_is_well_again(self) -> None:
        self.disk.before = healthy
        if self.frame is None:
            self.start()

    @rule()
    def in_the_end_it_does_what_it_should(self) -> None:
        self.disk.before = healthy
        if self.frame is None:
            self.start()
        with using(self.disk):
            frame = self.awake()
            frame.settle()
            # One that has failed for good, or crashed, waits for a new DesiredState.
            frame.offer(releases().first if frame.core.journal.committed is None else releases().fix)
            if not self.floor_is_too_high():
                frame.settle()
                require_settled(frame)

    def floor_is_too_high(self) -> bool:
        """After ``other`` was committed nothing of its predecessors' security epoch may come back."""
        committed = self.awake().core.journal.committed
        return committed is not None and committed.security_epoch > 0

    @invariant()
    def what_plays_is_whole_and_was_committed_or_is_on_probation(self) -> None:
        if not getattr(self, "frame", None):
            return
        journal, playing = self.awake().core.journal, self.awake().core.playing
        for slot in (playing, journal.committed):
            if slot is not None:
                require_whole(self.disk, slot)
        assert playing in (journal.committed, journal.playing)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
