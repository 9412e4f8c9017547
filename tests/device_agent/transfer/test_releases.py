"""A frame fetches a release as its DesiredState's TransferPolicy allows, and obeys a newer one at any moment."""

import os
from pathlib import Path
from typing import Any

import pytest

from device_agent.storage.store import FileStore
from protocol import topics
from protocol.chunks import build_index
from protocol.errors import Reason
from protocol.limits import CHUNK_SIZE
from protocol.messages import TransferPolicy
from tests.device_agent.frame import FRAME, Frame
from tests.device_agent.repository import Published, Repository, desired

BUNDLE = os.urandom(100 * CHUNK_SIZE)
ADAPTER = os.urandom(3 * CHUNK_SIZE)
HOUR = 3_600.0


@pytest.fixture(scope="module")
def published() -> tuple[Repository, Published, Published]:
    repository = Repository()
    first = repository.release("portrait", "1.0", [repository.base(BUNDLE)])
    base = first.targets[0]
    return repository, first, repository.release("portrait", "1.1", [base, repository.adapter(ADAPTER, base)])


class World:
    """A frame and what it is offered."""

    def __init__(self, published: tuple[Repository, Published, Published], folder: Path) -> None:
        self.repository, self.first, self.second = published
        self.folder = folder
        self.frame = Frame(dict(self.repository.retained), self.repository.anchors(), FileStore(folder))
        self.frame.connect()
        self.version = 0

    def offer(self, release: Published | None, **policy: Any) -> None:
        self.version += 1
        state = desired(FRAME, self.version, release, transfer=TransferPolicy(**policy))
        self.frame.give(self.repository.envelope(state))

    @property
    def state(self) -> str:
        return self.frame.core.journal.state

    @property
    def partial(self) -> int:
        path = self.folder / "partial" / self.first.targets[0].sha256
        return path.stat().st_size if path.exists() else 0


@pytest.fixture
def world(published: tuple[Repository, Published, Published], tmp_path: Path) -> World:
    return World(published, tmp_path)


def test_a_delta_does_not_bring_its_base_model_unasked(world: World) -> None:
    world.offer(world.second)
    last = world.frame.reports[-1]
    assert (last.state, last.target) == ("failed", world.second.release.sha256)
    assert last.failure is not None
    assert last.failure.reason is Reason.NEEDS_FULL_MODEL
    assert "6.6 MB" in last.failure.detail
    assert not world.partial
    world.frame.wait(24 * HOUR)
    assert world.state == "failed", "it waits for a DesiredState that allows it"
    world.offer(world.second, base_model=True)
    assert world.state == "committed"


def test_a_frame_that_has_the_base_model_takes_the_delta(world: World) -> None:
    world.offer(world.first, base_model=True)
    world.offer(world.second)
    assert world.state == "committed"
    assert world.frame.reports[-1].release == world.second.release.sha256


def test_a_download_waits_for_quiet_hours_to_end_and_says_so(world: World) -> None:
    world.offer(world.first, base_model=True, quiet_from=0, quiet_to=7 * 60)
    figures = world.frame.reports[-1].figures
    assert figures["waiting_s"] == 7 * HOUR
    assert figures["total_bytes"] == len(BUNDLE) + world.first.release.length
    world.frame.wait(7 * HOUR - 1)
    assert (world.state, world.partial) == ("downloading", 0)
    assert not any(topic.startswith("repo/chunk") for topic in world.frame.fetched)
    world.frame.wait(1)
    assert world.state == "committed"
    assert "waiting_s" not in world.frame.reports[-1].figures


def test_a_rollback_to_what_is_here_does_not_wait(world: World) -> None:
    world.offer(world.first, base_model=True)
    world.offer(world.second)
    world.offer(world.first, quiet_from=0, quiet_to=1_439)
    assert world.frame.reports[-1].release == world.first.release.sha256


def test_a_daily_budget_stretches_a_download_over_days_and_outlives_a_restart(world: World) -> None:
    world.offer(world.first, base_model=True, daily_bytes=2_000_000)
    first_day = world.partial
    assert 1_800_000 < first_day <= 2_000_000
    assert world.frame.reports[-1].figures["waiting_s"] == 24 * HOUR
    world.frame.wait(HOUR)
    world.frame.boot()
    world.frame.connect()
    world.frame.wait(22 * HOUR)
    assert world.partial == first_day
    figures = world.frame.reports[-1].figures
    assert figures["total_bytes"] == len(BUNDLE)
    assert 0.9 * first_day < figures["fetched_bytes"] <= first_day
    world.frame.wait(2 * HOUR)
    assert 2 * first_day * 0.95 < world.partial <= 4_000_000
    world.frame.wait(48 * HOUR)
    assert world.state == "committed"


@pytest.mark.parametrize("then", ["nothing", "another", "quiet hours"])
def test_a_newer_desired_state_is_obeyed_in_mid_download(world: World, then: str) -> None:
    chunks = 0

    def cut(topic: str) -> bool:
        nonlocal chunks
        chunks += topic.startswith("repo/chunk")
        return chunks <= 20

    world.frame.before_message = cut
    world.offer(world.first, base_model=True)
    assert world.state == "downloading"
    held = world.partial
    assert held
    world.frame.before_message = lambda topic: True
    if then == "nothing":
        world.offer(None)
        assert world.state == "idle"
    elif then == "another":
        world.offer(world.second, base_model=True)
        assert world.frame.reports[-1].release == world.second.release.sha256
    else:
        world.offer(world.first, base_model=True, quiet_from=0, quiet_to=60)
        assert world.state == "downloading"
    if then != "another":
        world.frame.wait(600.0)
        assert world.partial == held
    assert not [topic for topic in world.frame.subscribed if topic.startswith("repo/")]


def test_going_on_after_a_restart_fetches_neither_index_nor_chunks_twice(world: World) -> None:
    index = build_index([BUNDLE])
    taken = 0

    def cut(topic: str) -> bool:
        nonlocal taken
        taken += topic.startswith("repo/chunk")
        return taken <= 50

    world.frame.before_message = cut
    world.offer(world.first, base_model=True)
    assert 0 < world.partial < len(BUNDLE)
    world.frame.boot()
    world.frame.before_message = lambda topic: True
    world.frame.connect()
    assert world.state == "committed"
    twice = [topic for topic, times in world.frame.fetched.items() if times > 1 and topic.startswith("repo/chunk")]
    assert len(twice) <= 3, "only what was on its way when the frame was cut"
    assert topics.chunk_topic(str(index.root)) not in twice
    world.frame.store.collect(world.frame.core.journal.files())
    assert {path.name for path in (world.folder / "store").iterdir()} == world.frame.core.journal.files()


def test_room_is_needed_only_for_what_is_not_here_yet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    base = world.first.targets[0]
    asked: list[int] = []
    monkeypatch.setattr(FileStore, "room", lambda self, needed: asked.append(needed))
    (world.folder / "partial" / base.sha256).write_bytes(BUNDLE[: 60 * CHUNK_SIZE])
    world.offer(world.first, base_model=True)
    assert world.state == "committed"
    assert asked[0] == world.first.release.length
    assert base.length - 60 * CHUNK_SIZE in asked
    assert base.length not in asked
