"""Files arrive whole or not at all, go on where they were cut, and go when no slot names them."""

import os
from pathlib import Path

import pytest

from device_agent.storage.files import replace_file
from device_agent.storage.journal import FileDocuments
from device_agent.storage.store import FileStore, MemoryStore
from protocol.chunks import build_index, sha256_hex, split
from protocol.errors import Reason, Refused

DATA = os.urandom(200_000)
INDEX = build_index([DATA])
CHUNKS = split(DATA)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


def put(store: FileStore, data: bytes) -> str:
    index = build_index([data])
    sink = store.sink(index.sha256, len(data))
    assert sink.resume(list(index.chunk_hashes)) == 0
    for chunk in split(data):
        sink.append(chunk)
    sink.finish()
    return index.sha256


def test_a_file_is_there_only_when_it_is_whole(store: FileStore) -> None:
    sink = store.sink(INDEX.sha256, INDEX.length)
    sink.resume(list(INDEX.chunk_hashes))
    for chunk in CHUNKS:
        assert not store.has(INDEX.sha256)
        sink.append(chunk)
    sink.finish()
    assert store.read(INDEX.sha256) == DATA
    store.check(INDEX.sha256, INDEX.length)


@pytest.mark.parametrize("kept", range(len(CHUNKS) + 1))
def test_a_download_goes_on_where_it_was_cut(store: FileStore, tmp_path: Path, kept: int) -> None:
    sink = store.sink(INDEX.sha256, INDEX.length)
    sink.resume(list(INDEX.chunk_hashes))
    for chunk in CHUNKS[:kept]:
        sink.append(chunk)
    with (tmp_path / "partial" / INDEX.sha256).open("ab") as file:
        file.write(b"half a chunk")
    again = store.sink(INDEX.sha256, INDEX.length)
    assert again.resume(list(INDEX.chunk_hashes)) == kept
    for chunk in CHUNKS[kept:]:
        again.append(chunk)
    again.finish()
    assert store.read(INDEX.sha256) == DATA


def test_a_chunk_damaged_on_disk_is_fetched_again(store: FileStore, tmp_path: Path) -> None:
    sink = store.sink(INDEX.sha256, INDEX.length)
    sink.resume(list(INDEX.chunk_hashes))
    for chunk in CHUNKS:
        sink.append(chunk)
    partial = tmp_path / "partial" / INDEX.sha256
    data = bytearray(partial.read_bytes())
    data[70_000] ^= 1
    partial.write_bytes(data)
    assert store.sink(INDEX.sha256, INDEX.length).resume(list(INDEX.chunk_hashes)) == 1


def refusal(call: object, *arguments: object) -> Reason:
    assert callable(call)
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.reason


def test_a_file_that_does_not_hash_to_its_name_is_not_kept(store: FileStore, tmp_path: Path) -> None:
    wrong = sha256_hex(b"something else")
    sink = store.sink(wrong, INDEX.length)
    sink.resume(list(INDEX.chunk_hashes))
    for chunk in CHUNKS:
        sink.append(chunk)
    assert refusal(sink.finish) is Reason.BAD_ARTIFACT
    assert not store.has(wrong)
    assert not list((tmp_path / "partial").iterdir())


def test_a_file_damaged_after_it_came_is_found_and_deleted(store: FileStore) -> None:
    name = put(store, DATA)
    store.path(name).write_bytes(DATA[:-1] + b"X")
    assert refusal(store.read, name) is Reason.BAD_ARTIFACT
    assert refusal(store.check, name, len(DATA)) is Reason.BAD_ARTIFACT
    assert not store.has(name)
    assert refusal(store.check, name, len(DATA)) is Reason.BAD_ARTIFACT


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = FileStore(tmp_path, headroom=1 << 60)
    assert refusal(store.room, 1) is Reason.DISK_FULL
    store.room(0)
    sink = store.sink(INDEX.sha256, INDEX.length)
    sink.resume(list(INDEX.chunk_hashes))
    assert refusal(sink.append, CHUNKS[0]) is Reason.DISK_FULL


def test_what_no_slot_names_goes_unless_it_plays(store: FileStore, tmp_path: Path) -> None:
    kept, played, gone = (put(store, data) for data in (b"kept", b"played", b"gone"))
    (tmp_path / "partial" / gone).write_bytes(b"x")
    with store.pinned(played):
        assert store.collect(frozenset({kept})) == 2
        assert (store.has(kept), store.has(played), store.has(gone)) == (True, True, False)
    store.collect(frozenset({kept}))
    assert not store.has(played)


def test_a_name_that_is_no_hash_never_becomes_a_path(store: FileStore) -> None:
    for name in ("../../etc/passwd", "x", "A" * 64):
        with pytest.raises(ValueError, match="no SHA-256"):
            store.has(name)


def test_frames_in_memory_share_bytes_but_not_possessions() -> None:
    shared: dict[str, bytes] = {}
    one, two = MemoryStore(shared), MemoryStore(shared)
    name = one.put(DATA)
    assert not two.has(name)
    assert two.put(bytes(DATA)) == name
    assert two.read(name) is one.read(name)
    assert one.collect(frozenset()) == 1
    assert not one.has(name)
    assert two.has(name)


def test_a_half_written_replacement_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    (tmp_path / ".file.new").write_bytes(b"ne")  # the power went here
    assert path.read_bytes() == b"old"
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_documents_have_plain_names(tmp_path: Path) -> None:
    documents = FileDocuments(tmp_path / "trust")
    documents.save("director-root", b"{}")
    assert documents.load("director-root") == b"{}"
    assert documents.load("root") is None
    with pytest.raises(ValueError, match="cannot name"):
        documents.save("../root", b"{}")
