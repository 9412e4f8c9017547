"""The security epoch only rises, outlives cuts and damage, and keeps known-dangerous releases from coming back."""

import stat
import sys
from pathlib import Path

import pytest

from device_agent.storage.disk import RealDisk, using
from device_agent.trust.epoch import CommandEpoch, EpochUnknown, FileEpoch, epoch_store
from protocol.messages import TargetRef
from tests.device_agent.frame import FRAME, Frame
from tests.device_agent.repository import Published, Repository, desired

# --- a file -----------------------------------------------------------------------------------------------------------


def test_a_floor_in_a_file_survives_and_never_goes_down(tmp_path: Path) -> None:
    assert FileEpoch(tmp_path / "epoch").floor() == 0
    for epoch in (3, 1, 3, 0):
        FileEpoch(tmp_path / "epoch").raise_to(epoch)
        assert FileEpoch(tmp_path / "epoch").floor() == 3
    same = FileEpoch(tmp_path / "epoch")
    same.raise_to(7)
    same.raise_to(2)
    assert same.floor() == FileEpoch(tmp_path / "epoch").floor() == 7


def test_it_is_written_only_when_it_rises(tmp_path: Path) -> None:
    epoch = FileEpoch(tmp_path / "epoch")
    epoch.raise_to(0)
    assert not (tmp_path / "epoch").exists()
    epoch.raise_to(2)
    before = (tmp_path / "epoch").stat().st_mtime_ns
    epoch.raise_to(2)
    assert (tmp_path / "epoch").stat().st_mtime_ns == before


class Cut(BaseException):
    """The power went."""


class CutDisk(RealDisk):
    """Loses power before the change with this number."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _change(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Cut

    def write(self, handle: int, data: bytes, offset: int) -> int:
        self._change()
        return super().write(handle, data, offset)

    def sync(self, handle: int) -> None:
        self._change()
        super().sync(handle)

    def rename(self, old: Path, new: Path) -> None:
        self._change()
        super().rename(old, new)

    def sync_folder(self, folder: Path) -> None:
        self._change()
        super().sync_folder(folder)


def test_a_cut_while_it_is_raised_leaves_the_old_or_the_new_floor(tmp_path: Path) -> None:
    path = tmp_path / "epoch"
    after = []
    for at in range(4):
        path.unlink(missing_ok=True)
        FileEpoch(path).raise_to(1)
        with pytest.raises(Cut), using(CutDisk(at)):
            FileEpoch(path).raise_to(2)
        after.append(FileEpoch(path).floor())
        FileEpoch(path).raise_to(2)
        assert FileEpoch(path).floor() == 2
    assert after == [1, 1, 1, 2]


@pytest.mark.parametrize(
    "damage", [b"", b"5\n", b"5 00000000\n", b"-5 abc", b"\0" * 100, b"9" * 1_000_000, "٣ 12345678\n".encode()]
)
def test_a_damaged_file_is_no_low_floor_and_is_mended(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "epoch").write_bytes(damage)
    epoch = FileEpoch(tmp_path / "epoch")
    with pytest.raises(EpochUnknown, match="damaged"):
        epoch.floor()
    epoch.raise_to(4)
    assert epoch.floor() == FileEpoch(tmp_path / "epoch").floor() == 4


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    FileEpoch(tmp_path / "epoch").raise_to(12)
    good = (tmp_path / "epoch").read_bytes()
    for at in range(len(good)):
        (tmp_path / "epoch").write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(EpochUnknown):
            FileEpoch(tmp_path / "epoch").floor()


# --- a vendor's helper ------------------------------------------------------------------------------------------------

GOOD = """
import pathlib, sys
kept = pathlib.Path(__file__).with_suffix(".kept")
if sys.argv[1] == "get":
    print(kept.read_text() if kept.exists() else 0)
else:
    kept.write_text(sys.argv[2])
"""


def helper(folder: Path, body: str) -> list[str]:
    path = folder / "rpmb.py"
    path.write_text(body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [sys.executable, "-S", "-E", str(path)]


def test_a_helper_is_asked_and_told(tmp_path: Path) -> None:
    epoch = CommandEpoch(helper(tmp_path, GOOD))
    assert epoch.floor() == 0
    epoch.raise_to(5)
    epoch.raise_to(3)
    assert CommandEpoch(helper(tmp_path, GOOD)).floor() == 5


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("import time; time.sleep(60)", "did not end within"),
        ("import os, time; os.fork() or time.sleep(60)", "did not end within"),
        ("raise SystemExit(3)", "ended with status 3"),
        ("print('five')", "instead of a number"),
        ("print(-1)", "instead of a number"),
        ("print(10 ** 9 * 5)", "instead of a number"),
        ("", "instead of a number"),
        ("import sys\nwhile True: sys.stdout.write('9' * 4096)", "ended with status"),
        ("import sys\nprint(0)", "after it was told to raise it"),
    ],
    ids=["hangs", "a child hangs", "fails", "words", "negative", "too large", "silence", "endless", "does not raise"],
)
def test_a_helper_that_cannot_be_relied_on_is_no_low_floor(tmp_path: Path, body: str, told: str) -> None:
    epoch = CommandEpoch(helper(tmp_path, body), timeout_s=0.5)
    with pytest.raises(EpochUnknown, match=told):
        epoch.raise_to(5)


def test_a_board_with_a_helper_keeps_no_file(tmp_path: Path) -> None:
    program = tmp_path / "rpmb"
    program.write_text(f"#!{sys.executable} -SE\n{GOOD}")
    program.chmod(0o700)
    epoch_store(program, tmp_path / "epoch").raise_to(3)
    assert epoch_store(program, tmp_path / "epoch").floor() == 3
    assert not (tmp_path / "epoch").exists()
    epoch_store(None, tmp_path / "epoch").raise_to(2)
    assert epoch_store(None, tmp_path / "epoch").floor() == 2


def test_a_helper_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EpochUnknown, match="cannot be started"):
        CommandEpoch([str(tmp_path / "nothing")]).floor()


# --- a frame ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def base(repository: Repository) -> TargetRef:
    return repository.base(b"model" * 100)


@pytest.fixture
def frame(repository: Repository) -> Frame:
    frame = Frame(repository.retained, repository.anchors())
    frame.connect()
    return frame


def offer(frame: Frame, repository: Repository, version: int, release: Published) -> str:
    """What became of it: the state, or the reason why not."""
    frame.give(repository.envelope(desired(FRAME, version, release)))
    frame.wait(1)
    last = frame.reports[-1]
    return last.state if last.failure is None else last.failure.reason.value


def test_a_committed_release_raises_the_floor_and_a_rollback_within_the_epoch_is_no_downgrade(
    frame: Frame, repository: Repository, base: TargetRef
) -> None:
    first = repository.release("portrait", "1", [base])
    second = repository.release("portrait", "2", [base], security_epoch=2)
    third = repository.release("portrait", "3", [base], security_epoch=2)
    assert offer(frame, repository, 1, first) == "committed"
    assert frame.epoch.floor() == 0
    assert offer(frame, repository, 2, second) == "committed"
    assert frame.epoch.floor() == 2
    assert offer(frame, repository, 3, third) == "committed"
    assert offer(frame, repository, 4, second) == "committed"
    tried = len(frame.trial.tried)
    assert offer(frame, repository, 5, first) == "old_epoch"
    assert len(frame.trial.tried) == tried
    assert frame.core.playing is not None
    assert frame.core.playing.release == second.release.sha256


def test_only_the_releases_own_epoch_counts_not_that_of_its_parts(frame: Frame, repository: Repository) -> None:
    base = repository.base(b"model" * 100)
    adapter = repository.adapter(b"fix", base, security_epoch=9)
    assert offer(frame, repository, 1, repository.release("portrait", "1", [base, adapter])) == "committed"
    assert frame.epoch.floor() == 0
    assert offer(frame, repository, 2, repository.release("portrait", "2", [base])) == "committed"


def test_a_release_that_is_not_committed_raises_nothing(frame: Frame, repository: Repository, base: TargetRef) -> None:
    first = repository.release("portrait", "1", [base])
    second = repository.release("portrait", "2", [base], security_epoch=2)
    assert offer(frame, repository, 1, first) == "committed"
    frame.policy = type(frame.policy)(playbacks=3)
    frame.boot()
    frame.connect()
    assert offer(frame, repository, 2, second) == "trial"
    assert frame.epoch.floor() == 0
    assert offer(frame, repository, 3, first) == "committed"
    assert offer(frame, repository, 4, second) == "trial"
    for _ in range(3):
        frame.run(frame.core.played(frame.now, second.release.sha256))
    assert frame.core.journal.state == "committed"
    assert frame.epoch.floor() == 2


class Forgetful:
    """A place that loses power whenever it is told to raise something."""

    def __init__(self) -> None:
        self.works = False
        self.kept = 0

    def floor(self) -> int:
        return self.kept

    def raise_to(self, epoch: int) -> None:
        if not self.works and epoch > self.kept:
            raise EpochUnknown("The place for the security epoch does not take it: look at the board.")
        self.kept = max(self.kept, epoch)


def test_a_floor_that_could_not_be_raised_counts_all_the_same_and_is_raised_at_the_next_start(
    frame: Frame, repository: Repository, base: TargetRef
) -> None:
    first = repository.release("portrait", "1", [base])
    second = repository.release("portrait", "2", [base], security_epoch=2)
    frame.epoch = place = Forgetful()
    frame.boot()
    frame.connect()
    assert offer(frame, repository, 1, second) == "committed"
    assert place.kept == 0
    assert [event.kind for event in frame.health] == ["security_epoch"]
    assert offer(frame, repository, 2, first) == "old_epoch"
    place.works = True
    frame.boot()
    assert place.kept == 2


def test_a_damaged_file_is_told_mended_from_the_committed_release_and_lets_nothing_older_in(
    frame: Frame, repository: Repository, base: TargetRef, tmp_path: Path
) -> None:
    first = repository.release("portrait", "1", [base])
    second = repository.release("portrait", "2", [base], security_epoch=2)
    frame.epoch = FileEpoch(tmp_path / "epoch")
    frame.boot()
    frame.connect()
    assert offer(frame, repository, 1, second) == "committed"
    (tmp_path / "epoch").write_bytes(b"0\n")
    frame.epoch = FileEpoch(tmp_path / "epoch")
    frame.boot()
    frame.connect()
    assert [event.kind for event in frame.health] == ["security_epoch"]
    assert FileEpoch(tmp_path / "epoch").floor() == 2
    assert offer(frame, repository, 2, first) == "old_epoch"


def test_while_the_floor_cannot_be_read_nothing_is_installed_and_it_is_tried_again(
    frame: Frame, repository: Repository, base: TargetRef, tmp_path: Path
) -> None:
    release = repository.release("portrait", "1", [base])
    argv = helper(tmp_path, "raise SystemExit(1)")
    frame.epoch = CommandEpoch(argv)
    frame.boot()
    frame.connect()
    assert offer(frame, repository, 1, release) == "internal"
    assert not frame.trial.tried
    helper(tmp_path, GOOD)
    frame.wait(3_600)
    assert frame.reports[-1].state == "committed"
