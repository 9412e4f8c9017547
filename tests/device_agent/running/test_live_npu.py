"""A running agent whose NPU fails in the middle of a film: the film goes on on the CPU, and ops are told once.

The NPU is a stand-in with RKNNLite's interface; everything around it is real.
"""

from pathlib import Path

import pytest

from protocol.messages import HealthEvent, PlaybackEvent
from tests.device_agent.live import FRAME, Backend, LiveAgent, until
from tests.device_agent.repository import Repository, desired
from tests.reference_model.artifacts import with_manifest

pytestmark = pytest.mark.slow

FAILING = """
from tests.device_agent.fake_rknnlite import FakeRknnLite


def RKNNLite(verbose=False):
    return FakeRknnLite({"inference": 20})
"""


def test_a_film_goes_on_on_the_cpu_when_the_npu_fails(
    agent: LiveAgent, backend: Backend, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "rknnlite"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "api.py").write_text(FAILING)
    root = Path(__file__).parents[3]
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}:{root}")
    # The stand-in runs ONNX, so that is what this bundle carries for the NPU.
    bundle = with_manifest(lambda manifest: manifest["stages"][0]["graphs"].update(rknn="motion.onnx"))
    release = repository.release("portrait", "1.0", [repository.base(bundle)])
    backend.put(repository.retained)
    backend.assign(FRAME, 1, repository.envelope(desired(FRAME, 1, release)))
    agent.start("--runtime", "rknn", "--sink", "none", "--trial-playbacks", "1")
    asked = agent.lay_out_media()
    until(lambda: bool(backend.reports) and backend.reports[-1].release == release.release.sha256)
    assert agent.ask("/play", asked)[0] == 200
    until(lambda: backend.reports[-1].state == "committed")

    def told() -> list[HealthEvent]:
        events = [event for event in list(backend.events.values()) if isinstance(event, HealthEvent)]
        return [event for event in events if event.kind == "npu_fault"]

    until(lambda: any(isinstance(event, PlaybackEvent) for event in list(backend.events.values())) and bool(told()))
    assert all("The CPU runs it instead." in event.detail for event in told())
    assert {event.completed for event in backend.events.values() if isinstance(event, PlaybackEvent)} == {True}
    runtime = agent.ask("/status")[1]["runtime"]
    assert runtime["uses"] == "CPU"
    assert "gave no answer" in runtime["why"]
    assert agent.stop() == 0
