"""A running agent whose disk or memory runs out in the middle of an installation: what plays goes on playing."""

import errno
import shutil
import subprocess
from pathlib import Path

import pytest

from protocol import topics
from protocol.chunks import sha256_hex, split
from protocol.errors import Reason
from protocol.limits import CHUNK_SIZE
from protocol.messages import HealthEvent, ReportedState
from tests.device_agent.graphs import hungry_bundle
from tests.device_agent.live import FRAME, Backend, LiveAgent, until
from tests.device_agent.repository import Published, Repository, desired
from tests.reference_model.artifacts import BUNDLE, with_manifest

pytestmark = pytest.mark.slow

SETTINGS = ("--trial-playbacks", "1", "--sink", "none")


def last(backend: Backend) -> ReportedState | None:
    return backend.reports[-1] if backend.reports else None


def play_and_commit(agent: LiveAgent, backend: Backend, release: Published) -> dict[str, str]:
    """The frame's first release, proved by one film; what to play."""
    asked = agent.lay_out_media()
    until(lambda: bool((now := last(backend)) and now.release == release.release.sha256))
    assert agent.ask("/play", asked)[0] == 200
    until(lambda: bool((now := last(backend)) and now.state == "committed"))
    return asked


def small_disk(folder: Path, megabytes: int) -> tuple[str, ...]:
    """A command that runs another one with a small disk of its own, of which ``store`` and ``partial`` are part."""
    disk = folder / "disk"
    disk.mkdir()
    for name in ("store", "partial"):
        (folder / name).symlink_to(disk / name)
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs "$0" && mkdir "$0/store" "$0/partial" && exec "$@"'
    for unshare in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        if shutil.which("unshare") and subprocess.run([*unshare, "true"], capture_output=True).returncode == 0:
            return (*unshare, "sh", "-c", mount, str(disk))
    pytest.skip("this machine lets nobody make a mount namespace")


def fill(disk: Path) -> None:
    """Write until no byte is left."""
    try:
        with (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(CHUNK_SIZE))
    except OSError as error:
        assert error.errno == errno.ENOSPC


def test_a_disk_that_fills_up_in_mid_download_leaves_the_old_release_playing(
    agent: LiveAgent, backend: Backend, repository: Repository
) -> None:
    size = BUNDLE.stat().st_size
    within = small_disk(agent.folder, 2 * size // 1_000_000 + 8)
    first = repository.release("portrait", "1.0", [repository.base(BUNDLE.read_bytes())])
    backend.put(repository.retained)
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, first)))
    agent.start(*SETTINGS, "--disk-reserve-mb", "1", within=within)
    asked = play_and_commit(agent, backend, first)

    other = with_manifest(lambda manifest: manifest.update(name="another"))
    target = repository.base(other, "2.0")
    second = repository.release("portrait", "2.0", [target])
    chunks = [topics.chunk_topic(sha256_hex(chunk)) for chunk in split(other)]
    held_back = {topic: repository.retained.pop(topic) for topic in chunks[len(chunks) // 2 :]}
    backend.put(repository.retained)
    backend.assign(FRAME, 2, repository.envelope(desired(FRAME, 2, second)))
    assert agent.process is not None
    inside = Path(f"/proc/{agent.process.pid}/root") / agent.folder.relative_to("/") / "disk"
    partial = inside / "partial" / target.sha256
    until(lambda: partial.exists() and partial.stat().st_size >= len(chunks) // 2 * CHUNK_SIZE)
    fill(inside)
    backend.put(held_back)

    until(lambda: bool((now := last(backend)) and now.state == "failed"))
    report = backend.reports[-1]
    assert report.failure is not None
    assert report.failure.reason is Reason.DISK_FULL
    assert (report.release, report.target) == (first.release.sha256, second.release.sha256)
    assert agent.ask("/play", asked)[0] == 200, "the old release plays"
    assert agent.stop() == 0


def test_a_release_that_eats_the_memory_is_reverted_and_the_old_one_plays(
    agent: LiveAgent, backend: Backend, repository: Repository
) -> None:
    first = repository.release("portrait", "1.0", [repository.base(BUNDLE.read_bytes())])
    backend.put(repository.retained)
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, first)))
    agent.start(*SETTINGS, "--renderer-memory-mb", "600")
    asked = play_and_commit(agent, backend, first)

    second = repository.release("portrait", "2.0", [repository.base(hungry_bundle(gigabytes=4), "2.0")])
    backend.put(repository.retained)
    backend.assign(FRAME, 2, repository.envelope(desired(FRAME, 2, second)))
    until(lambda: bool((now := last(backend)) and now.state == "reverted"))
    report = backend.reports[-1]
    assert report.failure is not None
    assert report.failure.reason is Reason.TRIAL_FAILED
    assert "memory" in report.failure.detail
    assert (report.release, report.target) == (first.release.sha256, second.release.sha256)
    assert agent.process is not None
    assert agent.process.poll() is None, "the agent itself has lost nothing"
    assert agent.ask("/play", asked)[0] == 200, "the old release plays"
    until(lambda: any(isinstance(event, HealthEvent) for event in backend.events.values()))
    assert agent.stop() == 0
