"""``python -m simulator run`` as a process: real broker, real model, people on a clock of one second per day."""

import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.messages import PlaybackEvent, PowerSample, ReportedState
from tests.device_agent.live import Backend, backend_user, frame_user, until
from tests.device_agent.repository import Published, Repository, desired
from tests.services import BrokerHandle, mqtt_broker

pytestmark = pytest.mark.slow

ARTIFACTS = Path(__file__).parents[2] / "reference_model" / "artifacts"
BUNDLE = ARTIFACTS / "talking-portrait-1.0.bundle"
ADAPTER = ARTIFACTS / "mandarin.adapter"
MANDARIN = ("zh-0001", "zh-0002", "zh-0003")
OTHERS = ("en-0001", "en-0002")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerHandle]:
    with mqtt_broker(tmp_path, [backend_user(), *map(frame_user, (*MANDARIN, *OTHERS))]) as handle:
        yield handle


@pytest.fixture
def backend(broker: BrokerHandle) -> Iterator[Backend]:
    backend = Backend(broker)
    yield backend
    backend.close()


def enrol(folder: Path, broker: BrokerHandle, simulated: bool = True) -> None:
    """The folders that enrolment writes."""
    for name in (*MANDARIN, *OTHERS):
        path = folder / name
        path.mkdir(parents=True)
        issued = broker.client(name)
        (path / "cert.pem").write_bytes(issued.cert.read_bytes())
        (path / "key.pem").write_bytes(issued.key.read_bytes())
        (path / "ca.pem").write_bytes(broker.ca.read_bytes())
        frame = {"frame_id": name, "locale": name[:2], "hardware": "rk3588", "simulated": simulated}
        (path / "frame.json").write_text(json.dumps(frame))


def burn(path: Path, repository: Repository, release: Published) -> None:
    """The release package of the factory."""
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("release.json", repository.retained[f"repo/chunk/{release.release.sha256}"])
        package.writestr("metadata/base.json", repository.documents["base"])
        package.write(BUNDLE, f"artifacts/{release.targets[0].sha256}")


class Process:
    """The simulator over folders made by hand."""

    def __init__(self, folder: Path, broker: BrokerHandle, repository: Repository) -> None:
        self.folder, self.url = folder, broker.url
        trust = folder / "trust"
        trust.mkdir()
        for name, document in repository.anchors().items():
            (trust / f"{name}.json").write_bytes(document)
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        what = ["--frames", str(self.folder / "frames"), "--trust", str(self.folder / "trust"), "--mqtt", self.url]
        pace = ["--factory", str(self.folder / "1.0.zip"), "--day-seconds", "1", "--start-days-ago", "60"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "simulator", "run", *what, *pace, "--seed", "7"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> tuple[int, str, str]:
        """SIGTERM; exit status, stdout, stderr."""
        assert self.process is not None
        self.process.terminate()
        out, error = self.process.communicate(timeout=10)
        return self.process.returncode, out, error


@pytest.fixture
def simulator(tmp_path: Path, broker: BrokerHandle) -> Iterator[tuple[Process, Repository, Published]]:
    repository = Repository()
    first = repository.release("portrait", "1.0", [repository.base(BUNDLE.read_bytes())])
    enrol(tmp_path / "frames", broker)
    burn(tmp_path / "1.0.zip", repository, first)
    process = Process(tmp_path, broker, repository)
    yield process, repository, first
    if process.process is not None and process.process.poll() is None:
        process.process.kill()
        process.process.wait()


def newest(backend: Backend, name: str) -> ReportedState | None:
    return next((report for report in reversed(backend.reports) if report.frame_id == name), None)


def runs(backend: Backend, name: str, release: str) -> bool:
    report = newest(backend, name)
    return report is not None and report.state == "committed" and report.release == release


def lips(report: ReportedState | None, segment: str) -> float:
    assert report is not None
    return {part.segment: part.lip_mm for part in report.lip_errors}[segment]


def test_frames_are_born_with_a_release_take_the_next_and_people_play_it(
    simulator: tuple[Process, Repository, Published], backend: Backend
) -> None:
    process, repository, first = simulator
    base = first.targets[0]
    second = repository.release("portrait", "1.1", [base, repository.adapter(ADAPTER.read_bytes(), base)])
    chunks = {f"repo/chunk/{base.sha256}"}
    backend.put({topic: data for topic, data in repository.retained.items() if topic not in chunks})
    process.start()
    names = (*MANDARIN, *OTHERS)
    until(lambda: all(runs(backend, name, first.release.sha256) for name in names))
    before = lips(newest(backend, MANDARIN[0]), "mandarin")
    until(lambda: any(isinstance(event, PlaybackEvent) for event in backend.events.values()))

    for name in MANDARIN:
        backend.assign(name, 1, repository.envelope(desired(name, 1, second)))
    until(lambda: all(runs(backend, name, second.release.sha256) for name in MANDARIN))
    assert lips(newest(backend, MANDARIN[0]), "mandarin") < before
    assert {report.slot for name in MANDARIN if (report := newest(backend, name))} == {"B"}
    ended = [report.figures for name in MANDARIN if (report := newest(backend, name))]
    assert all(end["playbacks"] >= 3 or end["healthy_h"] >= 24 for end in ended), "proved by what their people did"
    assert sum(end["playbacks"] for end in ended) > 0, ended
    assert all(runs(backend, name, first.release.sha256) for name in OTHERS)
    until(lambda: any(event.release == second.release.sha256 for event in backend.events.values()))

    began = time.monotonic()
    status, out, error = process.stop()
    assert time.monotonic() - began < 5
    assert (status, error) == (0, "")
    lines = out.splitlines()
    assert "5 simulated frames connected" in lines[0]
    last = json.loads(lines[-1].removeprefix("SIMULATOR "))
    assert (last["frames"], last["connected"], last["lost"]) == (5, 5, 0)
    assert last["releases"] == {"portrait 1.0": len(OTHERS), "portrait 1.1": len(MANDARIN)}
    assert last["verified_reused"] > 0
    kinds = {type(event) for event in backend.events.values()}
    assert {PlaybackEvent, PowerSample} <= kinds
    now = time.time() * 1000
    assert all(now - 61 * 86_400_000 < event.at < now for event in backend.events.values())


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "1.0.zip").write_bytes(b"no zip"), "no complete release package"),
        (lambda folder: (folder / "trust" / "root.json").unlink(), "trust anchor"),
        (lambda folder: (folder / "frames" / "zh-0001" / "frame.json").write_text("{}"), "enrol the frame again"),
        (
            lambda folder: (folder / "frames" / "zh-0001" / "frame.json").write_text(
                '{"frame_id": "zh-0001", "locale": "zh", "hardware": "rk3588", "simulated": false}'
            ),
            "--simulated",
        ),
    ],
)
def test_what_cannot_start_says_why(
    simulator: tuple[Process, Repository, Published], spoil: object, sentence: str
) -> None:
    process, _, _ = simulator
    assert callable(spoil)
    spoil(process.folder)
    process.start()
    assert process.process is not None
    _, error = process.process.communicate(timeout=20)
    assert process.process.returncode == 1
    assert sentence in error
    assert error.count("\n") == 1
