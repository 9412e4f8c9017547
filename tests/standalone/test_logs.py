"""A bounded log."""

from pathlib import Path

from standalone.logs import BoundedLog
from standalone.processes import tail


def test_two_files_hold_the_newest_and_never_more_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with BoundedLog(path, max_bytes=100) as log:
        for number in range(50):
            log.write(f"line {number:02}\n".encode())
            assert path.stat().st_size <= 100
    older = tmp_path / "a.log.1"
    assert older.stat().st_size <= 100
    kept = older.read_text().splitlines() + path.read_text().splitlines()
    assert kept == [f"line {number:02}" for number in range(50 - len(kept), 50)]
    assert len(kept) > 12


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    for word in (b"one\n", b"two\n"):
        with BoundedLog(tmp_path / "a.log", max_bytes=100) as log:
            log.write(word)
    assert (tmp_path / "a.log").read_text() == "one\ntwo\n"


def test_of_one_piece_beyond_the_limit_the_end_is_kept(tmp_path: Path) -> None:
    with BoundedLog(tmp_path / "a.log", max_bytes=10) as log:
        log.write(b"0123456789abcdef")
    assert (tmp_path / "a.log").read_bytes() == b"6789abcdef"


def test_the_tail_of_a_log_and_of_none(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    assert tail(path) == ""
    path.write_text("".join(f"{number}\n" for number in range(100)))
    assert tail(path, lines=2) == "98\n99"
