"""Flash rots: a file that lay in the store and is damaged now is noticed by the next installation and brought anew."""

from pathlib import Path

import pytest

from device_agent.storage.store import FileStore
from protocol import topics
from protocol.chunks import sha256_hex, split
from protocol.errors import Reason
from protocol.messages import TransferPolicy
from tests.device_agent.frame import FRAME, Frame
from tests.device_agent.repository import Published, Repository, desired

BUNDLE = bytes(range(256)) * 900


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def releases(repository: Repository) -> tuple[Published, Published]:
    base = repository.base(BUNDLE)
    return (
        repository.release("portrait", "1.0", [base]),
        repository.release("portrait", "1.1", [base, repository.adapter(b"fix" * 500, base)]),
    )


@pytest.fixture
def frame(repository: Repository, releases: tuple[Published, Published], tmp_path: Path) -> Frame:
    frame = Frame(repository.retained, repository.anchors(), store=FileStore(tmp_path, headroom=0))
    frame.connect()
    frame.give(repository.envelope(desired(FRAME, 1, releases[0])))
    assert frame.core.journal.state == "committed"
    frame.fetched.clear()
    return frame


@pytest.mark.parametrize("length", [0, len(BUNDLE)], ids=["emptied", "flipped"])
def test_a_base_model_that_rotted_is_brought_anew(
    frame: Frame, repository: Repository, releases: tuple[Published, Published], tmp_path: Path, length: int
) -> None:
    base = releases[0].targets[0]
    (tmp_path / "store" / base.sha256).write_bytes(bytes(length))
    frame.give(repository.envelope(desired(FRAME, 2, releases[1])))
    assert frame.core.journal.state == "committed"
    assert frame.store.read(base.sha256) == BUNDLE
    assert sum(frame.fetched[topics.chunk_topic(digest)] for digest in map(sha256_hex, split(BUNDLE))) >= 1


def test_a_base_model_that_rotted_is_not_brought_where_the_rollout_does_not_allow_it(
    frame: Frame, repository: Repository, releases: tuple[Published, Published], tmp_path: Path
) -> None:
    base = releases[0].targets[0]
    (tmp_path / "store" / base.sha256).write_bytes(bytes(len(BUNDLE)))
    delta_only = TransferPolicy(base_model=False)
    frame.give(repository.envelope(desired(FRAME, 2, releases[1], transfer=delta_only)))
    failure = frame.core.journal.failure
    assert failure is not None
    assert failure.reason is Reason.NEEDS_FULL_MODEL


def test_a_manifest_that_rotted_is_brought_anew(
    frame: Frame, repository: Repository, releases: tuple[Published, Published], tmp_path: Path
) -> None:
    target = releases[1].release
    (tmp_path / "store" / target.sha256).write_bytes(b"{}")
    frame.give(repository.envelope(desired(FRAME, 2, releases[1])))
    assert frame.core.journal.state == "committed"
