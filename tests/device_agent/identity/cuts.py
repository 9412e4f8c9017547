"""Power that fails before the nth change of the disk; what was changed before it stays."""

from collections.abc import Callable, Iterator
from pathlib import Path

from device_agent.storage.disk import RealDisk, using


class Cut(BaseException):
    """The power is gone."""


class FailingDisk(RealDisk):
    def __init__(self, changes: int) -> None:
        self.left = changes

    def _change(self) -> None:
        if self.left == 0:
            raise Cut
        self.left -= 1

    def write(self, handle: int, data: bytes, offset: int) -> int:
        self._change()
        return super().write(handle, data, offset)

    def rename(self, old: Path, new: Path) -> None:
        self._change()
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        if path.exists():
            self._change()
        super().unlink(path)

    def mkdir(self, path: Path, mode: int = 0o700) -> None:
        if not path.exists():
            self._change()
        super().mkdir(path, mode)


def cut_everywhere(work: Callable[[], None], prepare: Callable[[], None]) -> Iterator[int]:
    """Run ``work`` over what ``prepare`` laid out, cut before its first change, its second, ... until it comes to its
    end; yields after each cut, for the caller to look at what is left."""
    for changes in range(200):
        prepare()
        try:
            with using(FailingDisk(changes)):
                work()
        except Cut:
            yield changes
        else:
            return
    raise AssertionError("the work never ends")
