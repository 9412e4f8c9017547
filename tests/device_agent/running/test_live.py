"""The agent as a process, over a real broker, with the real model: install, be killed, go on, play."""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from device_agent.player import SCREEN
from protocol import topics
from protocol.chunks import sha256_hex, split
from protocol.errors import Reason
from protocol.limits import CHUNK_SIZE
from protocol.messages import Complaint, HealthEvent, PlaybackEvent, PowerSample
from tests.device_agent.display import Display, children
from tests.device_agent.live import FRAME, OTHER, Backend, LiveAgent, backend_user, frame_user, until
from tests.device_agent.repository import Repository, desired
from tests.reference_model.artifacts import ADAPTER, BUNDLE
from tests.services import BrokerHandle

pytestmark = pytest.mark.slow


def test_install_be_killed_in_mid_download_go_on_fix_the_lips_and_prove_it_by_playing(
    agent: LiveAgent, backend: Backend, repository: Repository, broker: BrokerHandle
) -> None:
    base = repository.base(BUNDLE.read_bytes())
    first = repository.release("portrait", "1.0", [base])
    chunks = [topics.chunk_topic(sha256_hex(chunk)) for chunk in split(BUNDLE.read_bytes())]
    half = len(chunks) // 2
    later = {topic: repository.retained[topic] for topic in chunks[half:]}
    backend.put({topic: payload for topic, payload in repository.retained.items() if topic not in later})
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, first)))

    agent.start("--trial-playbacks", "1")
    partial = agent.folder / "partial" / base.sha256
    until(lambda: partial.exists() and partial.stat().st_size == half * CHUNK_SIZE)
    agent.kill9()
    backend.put(later)
    agent.start("--trial-playbacks", "1")
    until(lambda: bool(backend.reports) and backend.reports[-1].release == first.release.sha256)
    assert backend.reports[-1].state == "trial", "it plays, on probation"
    moved = re.findall(r"Fetched base/\S+, (\d+) bytes moved", agent.log.read_text())
    assert [int(bytes_) for bytes_ in moved] == [base.length - half * CHUNK_SIZE], "nothing was fetched twice"
    before = {part.segment: part for part in backend.reports[-1].lip_errors}
    assert before["base"].lip_mm < before["base"].mean_pose_mm
    figures = backend.reports[-1].figures
    assert {"step_p99_ms", "memory_mb", "power_w", "energy_j"} <= figures.keys()
    assert figures["power_estimated"] == 1

    asked = agent.lay_out_media()
    assert agent.ask("/play", asked)[0] == 200
    until(lambda: backend.reports[-1].state == "committed")

    broker.kill9()
    second = repository.release("portrait", "1.1", [base, repository.adapter(ADAPTER.read_bytes(), base)])
    broker.start()
    until(lambda: backend.client.is_connected())
    backend.put(repository.retained)
    backend.assign(FRAME, 2, repository.envelope(desired(FRAME, 2, second)))
    until(lambda: backend.reports[-1].release == second.release.sha256)
    status, played = agent.ask("/play", asked)
    assert status == 200, played
    assert Path(played["out"]).stat().st_size > 10_000
    until(lambda: backend.reports[-1].state == "committed")
    last = backend.reports[-1]
    assert (last.release, last.slot, last.failure) == (second.release.sha256, "B", None)
    after = {part.segment: part for part in last.lip_errors}
    assert after["mandarin"].lip_mm < before["mandarin"].lip_mm < before["mandarin"].mean_pose_mm

    assert agent.ask("/complain", {"playback_id": played["playback_id"]})[0] == 200
    until(lambda: any(isinstance(event, Complaint) for event in backend.events.values()))
    events = list(backend.events.values())
    assert {type(event) for event in events} == {PlaybackEvent, PowerSample, Complaint}
    assert {event.release for event in events} == {first.release.sha256, second.release.sha256}
    assert agent.ask("/play", {"photo": "/etc/passwd", "voice": "/etc/passwd"})[0] == 403
    assert agent.ask("/status")[1]["release_name"] == "portrait 1.1"
    assert agent.stop() == 0


def test_a_renderer_that_dies_or_hangs_on_probation_takes_the_release_back_and_no_more(
    agent: LiveAgent, backend: Backend, repository: Repository
) -> None:
    settings = ("--trial-playbacks", "1", "--renderer-beat-s", "4")
    base = repository.base(BUNDLE.read_bytes())
    first = repository.release("portrait", "1.0", [base])
    backend.put(repository.retained)
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, first)))
    agent.start(*settings, "--sink", "none")
    asked = agent.lay_out_media()
    until(lambda: bool(backend.reports) and backend.reports[-1].release == first.release.sha256)
    assert agent.ask("/play", asked)[0] == 200
    until(lambda: backend.reports[-1].state == "committed")
    agent.stop()

    agent.start(*settings, "--sink", "raw")
    screen = agent.folder / "films" / SCREEN
    for version, number, says in ((2, signal.SIGKILL, "SIGKILL"), (3, signal.SIGSTOP, "hung")):
        release = repository.release("portrait", f"1.{version}", [base, repository.adapter(ADAPTER.read_bytes(), base)])
        backend.put(repository.retained)
        backend.assign(FRAME, version, repository.envelope(desired(FRAME, version, release)))
        until(lambda release=release: backend.reports[-1].release == release.release.sha256)  # type: ignore[misc]
        display = Display(screen, frames=5)
        with ThreadPoolExecutor(1) as page:
            film = page.submit(agent.ask, "/play", asked)
            assert display.shown.wait(20)
            assert agent.process is not None
            (renderer,) = children(agent.process.pid)
            os.kill(renderer, number)
            status, answer = film.result(20)
        display.close()
        assert status == 422
        assert says in answer["detail"]
        until(lambda: backend.reports[-1].state == "reverted")
        last = backend.reports[-1]
        assert (last.release, last.target) == (first.release.sha256, release.release.sha256)
        assert last.failure is not None
        assert last.failure.reason is Reason.TRIAL_FAILED
        assert "step_p99_ms" in last.figures
    display = Display(screen)
    assert agent.ask("/play", asked)[0] == 200, "the old release plays"
    display.close()

    def broken_off() -> list[PlaybackEvent]:
        films = [event for event in list(backend.events.values()) if isinstance(event, PlaybackEvent)]
        return [film for film in films if not film.completed]

    until(lambda: len(broken_off()) == 2)
    assert agent.stop() == 0


def test_a_certificate_of_another_frame_installs_nothing_and_is_told_where_it_belongs(
    tmp_path: Path, backend: Backend, repository: Repository, broker: BrokerHandle
) -> None:
    first = repository.release("portrait", "1.0", [repository.base(b"model" * 100)])
    backend.put(repository.retained)
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, first)))
    backend.assign(OTHER, 1, repository.envelope(desired(OTHER, 1, first)))
    agent = LiveAgent(tmp_path / "frame", broker, FRAME, repository.anchors(), certificate=OTHER)
    agent.start()
    try:
        until(lambda: bool(backend.events))
        assert agent.ask("/status")[1]["release"] is None
    finally:
        assert agent.stop() == 0
    (event,) = backend.events.values()
    assert isinstance(event, HealthEvent)
    assert event.kind == "wrong_identity"
    assert FRAME in event.detail
    assert OTHER in event.detail
    assert [frame_id for frame_id, _ in backend.batches] == [OTHER]
    assert not backend.reports
    assert not backend.hellos


def test_a_refused_subscription_is_told(
    tmp_path: Path, backend: Backend, repository: Repository, broker: BrokerHandle
) -> None:
    narrow = frame_user(FRAME)
    narrow["permissions"]["subscribe"]["allow"] = [
        subject for subject in narrow["permissions"]["subscribe"]["allow"] if not subject.startswith("repo")
    ]
    broker.reload([backend_user(), narrow])
    until(lambda: backend.client.is_connected())
    first = repository.release("portrait", "1.0", [repository.base(b"model" * 100)])
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, first)))
    agent = LiveAgent(tmp_path / "frame", broker, FRAME, repository.anchors())
    agent.start()
    try:
        until(lambda: bool(backend.events))
    finally:
        agent.stop()
    (event,) = backend.events.values()
    assert isinstance(event, HealthEvent)
    assert event.kind == "subscription_refused"
    assert topics.REPO_HEAD in event.detail


def test_events_survive_a_killed_agent_and_are_taken_once(
    agent: LiveAgent, backend: Backend, repository: Repository
) -> None:
    backend.answering = False
    backend.put({topics.frame_topic(FRAME, "desired"): repository.envelope(desired(OTHER, 1))})
    agent.start()
    until(lambda: bool(backend.batches))
    agent.kill9()
    backend.answering = True
    agent.start()
    until(lambda: bool(backend.events))
    kinds = [event.kind for event in backend.events.values() if isinstance(event, HealthEvent)]
    assert "wrong_frame" in kinds
    numbers = [(batch.outbox_id, event.seq) for _, batch in backend.batches for event in batch.events]
    assert len({outbox_id for outbox_id, _ in numbers}) == 1
    assert numbers.count(numbers[0]) >= 2, "the batch of before came again, under its own number"


def test_only_one_agent_runs_on_a_folder(agent: LiveAgent) -> None:
    agent.start()
    agent.page()
    first = agent.process
    agent.start()
    assert agent.process is not None
    assert agent.process.wait(10) == 1
    assert "already" in agent.log.read_text()
    agent.process = first
    assert first is not None
    first.send_signal(signal.SIGINT)
    assert first.wait(10) == 0
    assert not (agent.folder / "local.json").exists()
