"""One damaged journal blanks no frame: it is written twice, each with a checksum, and the newest good one counts."""

import errno
import os
from pathlib import Path

import msgspec
import pytest

from device_agent.installer.slots import Journal
from device_agent.storage import disk as disks
from device_agent.storage.disk import RealDisk
from device_agent.storage.journal import FileJournal, pack, unpack

JOURNAL = Journal(journal_id="0" * 32, sequence=9, desired_version=7)
OLDER = msgspec.structs.replace(JOURNAL, sequence=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.json"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "journal.copy.json"


def test_it_is_read_back_and_there_is_none_on_a_new_frame(path: Path) -> None:
    port = FileJournal(path)
    assert port.load() is None
    port.save(JOURNAL)
    assert FileJournal(path).load() == JOURNAL


@pytest.mark.parametrize("damaged", ["journal.json", "journal.copy.json"])
@pytest.mark.parametrize("with_what", [b"", b"{", b'{"journal_id": 1}', os.urandom(400), None])
def test_one_damaged_journal_is_made_good_from_the_other(path: Path, damaged: str, with_what: bytes | None) -> None:
    FileJournal(path).save(JOURNAL)
    hurt = path.with_name(damaged)
    if with_what is None:
        hurt.unlink()
    else:
        hurt.write_bytes(with_what)
    assert FileJournal(path).load() == JOURNAL
    assert unpack(hurt.read_bytes()) == JOURNAL


def test_every_flipped_bit_is_noticed(path: Path, copy: Path) -> None:
    FileJournal(path).save(JOURNAL)
    copy.unlink()
    whole = path.read_bytes()
    for place in range(0, len(whole) * 8, 3):
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        try:
            read = unpack(bytes(data))
        except ValueError:
            continue
        assert read == JOURNAL, "the flipped bit was in the checksum's own name"


def test_the_newer_of_two_good_ones_counts(path: Path, copy: Path) -> None:
    FileJournal(path).save(OLDER)
    path.write_bytes(pack(JOURNAL))  # the power went before its copy was written
    assert FileJournal(path).load() == JOURNAL
    assert unpack(copy.read_bytes()) == JOURNAL
    path.write_bytes(pack(OLDER))
    assert FileJournal(path).load() == JOURNAL


def test_a_journal_without_checksum_is_read_and_one_with_it_means_the_same_to_readers_that_know_none(
    path: Path,
) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(JOURNAL), indent=1))
    assert FileJournal(path).load() == JOURNAL
    assert msgspec.json.decode(path.read_bytes(), type=Journal) == JOURNAL
    assert b"sha256" in path.read_bytes()


def test_when_both_are_damaged_they_are_kept_aside(path: Path, copy: Path) -> None:
    port = FileJournal(path)
    port.save(JOURNAL)
    path.write_bytes(b"{")
    copy.write_bytes(b"[")
    assert port.load() is None
    assert path.with_suffix(".unreadable").read_bytes() == b"{"
    assert not path.exists()
    assert not copy.exists()


def test_a_disk_that_cannot_be_read_for_a_moment_makes_no_frame_blank(path: Path) -> None:
    class Failing(RealDisk):
        def read(self, handle: int, length: int, offset: int) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    FileJournal(path).save(JOURNAL)
    with disks.using(Failing()), pytest.raises(OSError, match=os.strerror(errno.EIO)):
        FileJournal(path).load()
    assert FileJournal(path).load() == JOURNAL


def test_a_copy_that_cannot_be_written_stops_nothing(path: Path, copy: Path) -> None:
    copy.mkdir()
    FileJournal(path).save(JOURNAL)
    assert FileJournal(path).load() == JOURNAL
