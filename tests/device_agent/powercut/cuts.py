"""Cuts a story at every change it makes on the disk, and drives each frame on from what that leaves."""

import errno
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from device_agent.storage.disk import using
from tests.device_agent.powercut.backend import Backend, Wrong
from tests.device_agent.powercut.model import Chance, ModelDisk, healthy, picture
from tests.device_agent.powercut.story import Story, backend, releases
from tests.device_agent.powercut.world import Frame, PowerCut, Truth, born, recover, shuffled


@dataclass(frozen=True)
class Moment:
    """Everything that outlives the process, right before a change of the disk."""

    what: str
    disk: ModelDisk
    backend: Backend
    truth: Truth


@dataclass
class Tally:
    """What was tried, and what went wrong (at most a few of it in words)."""

    cut_points: int = 0
    second_cuts: int = 0
    killed_first: int = 0
    io_errors: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)

    def went_wrong(self, kind: str, where: str, detail: str) -> None:
        self.wrong[kind] += 1
        if len(self.told) < 20:
            self.told.append(f"{where}: {detail}")

    def add(self, other: "Tally") -> None:
        self.cut_points += other.cut_points
        self.second_cuts += other.second_cuts
        self.killed_first += other.killed_first
        self.io_errors += other.io_errors
        self.operations += other.operations
        self.wrong += other.wrong
        self.told = (self.told + other.told)[:20]


class Recorder:
    """Notes a Moment before each change of ``disk``."""

    def __init__(self, disk: ModelDisk, backend: Backend, truth: Truth) -> None:
        self.moments: list[Moment] = []
        self._disk, self._backend, self._truth = disk, backend, truth
        disk.before = self._note

    def _note(self, operation: str, path: Path) -> None:
        what = f"{operation} {path.name if len(path.name) < 40 else path.name[:12]}"
        self.moments.append(Moment(what, self._disk.frozen(), self._backend.copy(), self._truth.copy()))

    def end(self) -> None:
        """One more, after the last change."""
        self._note("end", Path("of the story"))


def tell(story: Story, capacity: int = 1 << 40) -> list[Moment]:
    """The story from birth to its end, and each moment at which it can be cut."""
    disk, other_side, truth = born(releases().repository, capacity), backend(), Truth()
    recorder = Recorder(disk, other_side, truth)
    with using(disk):
        story(Frame(disk, other_side, truth))
    recorder.end()
    return recorder.moments


def left_by_cut(moment: Moment, seed: int, draws: int) -> Iterator[ModelDisk]:
    """Different disks that a cut at ``moment`` may leave: nothing pending survives, all of it, all names without their
    bytes, and ``draws`` random ones."""
    rng = shuffled(seed)
    seen: set[int] = set()
    for kind in ("none", "all", "names", *("some" for _ in range(draws))):
        disk = moment.disk.after_cut(Chance(kind, rng))
        known = picture(disk)
        if known not in seen:
            seen.add(known)
            yield disk


def cut_at(moment: Moment, seed: int, draws: int, tally: Tally, *, twice: bool) -> None:
    """Cut at ``moment`` in every way that ``left_by_cut`` gives; with ``twice``, cut each recovery again somewhere."""
    rng = shuffled(seed)
    for disk in left_by_cut(moment, seed, draws):
        tally.cut_points += 1
        tally.operations[moment.what.split(" ")[0]] += 1
        other_side, truth = moment.backend.copy(), moment.truth.copy()
        recorder = Recorder(disk, other_side, truth) if twice else None
        if not _goes_on(disk, other_side, truth, f"cut before {moment.what}", tally) or recorder is None:
            continue
        again = rng.choice(recorder.moments)
        second = again.disk.after_cut(Chance("some", rng))
        tally.second_cuts += 1
        where = f"cut before {moment.what}, then before {again.what}"
        _goes_on(second, again.backend, again.truth, where, tally)


def kill_at(moment: Moment, seed: int, tally: Tally) -> None:
    """Kill the process at ``moment`` (the disk keeps what was written, synced or not), start again, and cut that."""
    rng = shuffled(seed)
    disk, other_side, truth = moment.disk.frozen(), moment.backend.copy(), moment.truth.copy()
    recorder = Recorder(disk, other_side, truth)
    if not _goes_on(disk, other_side, truth, f"killed before {moment.what}", tally):
        return
    recorder.end()
    for kind, again in (("none", rng.choice(recorder.moments)), ("some", rng.choice(recorder.moments))):
        tally.killed_first += 1
        where = f"killed before {moment.what}, then cut before {again.what}"
        _goes_on(again.disk.after_cut(Chance(kind, rng)), again.backend.copy(), again.truth.copy(), where, tally)


def fail_at(story: Story, number: int, code: int, lasting: int, seed: int, tally: Tally) -> None:
    """Tell the story on a disk whose change ``number`` and the next ``lasting`` - 1 fail with ``code``, and cut the
    power after its end: what was not durable is lost."""
    disk, other_side, truth = born(releases().repository), backend(), Truth()
    count = 0

    def fail(operation: str, path: Path) -> None:
        nonlocal count
        count += 1
        if number <= count < number + lasting and not (code == errno.ENOSPC and operation in ("unlink", "truncate")):
            raise OSError(code, os.strerror(code), f"{operation} {path}")

    disk.before = fail
    tally.io_errors += 1
    where = f"{errno.errorcode[code]} at change {number}"
    try:
        with using(disk):
            _tell_in_spite(story, disk, other_side, truth, tries=lasting + 2)
    except Wrong as wrong:
        tally.went_wrong(wrong.kind, where, str(wrong))
        return
    except Exception as error:
        tally.went_wrong("crashed", where, repr(error))
        return
    disk.before = healthy
    rng = shuffled(seed)
    for kind in ("none", "some"):
        left = disk.after_cut(Chance(kind, rng))
        _goes_on(left, other_side.copy(), truth.copy(), f"{where}, then cut", tally)


def _tell_in_spite(story: Story, disk: ModelDisk, other_side: Backend, truth: Truth, tries: int) -> None:
    """A process that the disk keeps from starting, or that ends of it, is started again."""
    for _ in range(tries):
        try:
            story(Frame(disk, other_side, truth))
            return
        except OSError:
            continue
    raise Wrong("stuck", f"the agent ended {tries} times")


def _goes_on(disk: ModelDisk, other_side: Backend, truth: Truth, where: str, tally: Tally) -> bool:
    try:
        recover(disk, other_side, truth, releases().final)
    except Wrong as wrong:
        tally.went_wrong(wrong.kind, where, str(wrong))
    except PowerCut:
        raise
    except Exception as error:
        tally.went_wrong("crashed", where, repr(error))
    else:
        return True
    return False
