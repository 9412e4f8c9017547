"""The disk in memory does what the operating system does until it is cut, and then loses no more than it may."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.storage.disk import Disk, RealDisk
from tests.device_agent.powercut.model import Chance, ModelDisk, healthy
from tests.device_agent.powercut.world import shuffled

NAMES = st.sampled_from(["a", "b", ".a.new", "folder", "folder/a", "nowhere/a"])
FLAGS = st.sampled_from([os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_TRUNC])
STEPS = st.one_of(
    st.tuples(st.just("write"), NAMES, FLAGS, st.binary(min_size=1, max_size=40), st.integers(0, 50)),
    st.tuples(st.just("cut"), NAMES, FLAGS, st.integers(0, 60)),
    st.tuples(st.just("read"), NAMES, st.integers(0, 60), st.integers(0, 60)),
    st.tuples(st.just("rename"), NAMES, NAMES),
    st.tuples(st.sampled_from(["unlink", "mkdir", "size", "names", "sync_folder"]), NAMES),
)


@contextmanager
def handle(disk: Disk, path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    opened = disk.open(path, flags)
    try:
        yield opened
    finally:
        disk.close(opened)


def do(disk: Disk, root: Path, step: tuple[Any, ...]) -> object:
    """What came of it, or how it failed."""
    try:
        return done(disk, root / step[1], root, step)
    except OSError as error:
        return type(error)


def done(disk: Disk, path: Path, root: Path, step: tuple[Any, ...]) -> object:
    kind, _, *more = step
    match kind:
        case "write":
            with handle(disk, path, more[0]) as file:
                written = disk.write(file, more[1], more[2])
                disk.sync(file)
                return written, disk.length(file)
        case "cut":
            with handle(disk, path, more[0]) as file:
                disk.truncate(file, more[1])
                return disk.length(file)
        case "read":
            with handle(disk, path) as file:
                return disk.read(file, more[0], more[1])
        case "names":
            return sorted(disk.names(path))
        case "size":
            return disk.size(path)
        case "rename":
            disk.rename(path, root / more[0])
        case "unlink":
            disk.unlink(path)
        case "mkdir":
            disk.mkdir(path)
        case _:
            disk.sync_folder(path)
    return None


def folders(step: tuple[Any, ...]) -> bool:
    """A file where a folder should be or the other way round: the agent has no such names."""
    kind, name, *more = step
    if kind == "mkdir":
        return str(name) != "folder"
    return kind in ("write", "cut", "read", "rename", "unlink") and "folder" in [str(name), *map(str, more)]


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS.filter(lambda step: not folders(step)), max_size=25))
def test_it_does_what_the_operating_system_does(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as real:
        model = ModelDisk()
        model.put(Path("/frame/x"), b"x")
        (Path(real) / "x").write_bytes(b"x")
        for step in steps:
            if step[0] == "sync_folder" and step[1] not in ("folder", "nowhere/a"):
                continue  # on a file: nobody does that
            assert do(model, Path("/frame"), step) == do(RealDisk(), Path(real), step), step


def store(disk: ModelDisk, *, sync: bool, sync_folder: bool) -> None:
    disk.put(Path("/frame/a"), b"old")
    with handle(disk, Path("/frame/.a.new"), os.O_RDWR | os.O_CREAT) as file:
        disk.write(file, b"new", 0)
        if sync:
            disk.sync(file)
    disk.rename(Path("/frame/.a.new"), Path("/frame/a"))
    if sync_folder:
        disk.sync_folder(Path("/frame"))


def left(disk: ModelDisk) -> set[bytes | None]:
    """Everything that a cut may leave of the file."""
    kinds = [("none", 1), ("all", 1), ("names", 1), ("some", 60)]
    disks = [disk.after_cut(Chance(kind, shuffled(seed))) for kind, draws in kinds for seed in range(draws)]
    return {one.content(Path("/frame/a")) for one in disks}


def test_a_replacement_survives_every_cut_only_with_both_syncs() -> None:
    def replaced(*, sync: bool, sync_folder: bool) -> set[bytes | None]:
        disk = ModelDisk()
        store(disk, sync=sync, sync_folder=sync_folder)
        return left(disk)

    assert replaced(sync=True, sync_folder=True) == {b"new"}
    assert replaced(sync=True, sync_folder=False) == {b"old", b"new"}
    torn = replaced(sync=False, sync_folder=True)
    assert {b"", b"new", b"\0\0\0"} <= torn
    assert b"old" not in torn


def test_a_sync_that_failed_has_lost_its_bytes_for_good() -> None:
    disk = ModelDisk()
    store(disk, sync=False, sync_folder=True)

    def fails(operation: str, path: Path) -> None:
        if operation == "sync":
            raise OSError(f"{path}")

    with handle(disk, Path("/frame/a"), os.O_RDWR) as file:
        disk.before = fails
        assert do_sync(disk, file) is OSError
        disk.before = healthy
        assert do_sync(disk, file) is None
        assert disk.read(file, 10, 0) == b"new"
    assert left(disk) == {b""}


def do_sync(disk: ModelDisk, file: int) -> type[OSError] | None:
    try:
        disk.sync(file)
    except OSError:
        return OSError
    return None
