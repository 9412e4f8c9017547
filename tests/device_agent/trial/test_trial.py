"""The trial runs the real golden clips on the real model, and refuses what cannot run."""

import threading
from pathlib import Path

import numpy as np
import pytest

from device_agent.adapters import load, pack
from device_agent.bundle import Bundle
from device_agent.installer.slots import Installed, Slot
from device_agent.ports import TrialReport
from device_agent.renderer import Renderer, RendererDied, RendererOptions
from device_agent.renderer.trials import StoreTrial
from device_agent.storage.store import FileStore
from device_agent.trial.run import run_trial
from protocol.errors import Reason, Refused
from protocol.messages import AnyEvent, HealthEvent
from tests.device_agent.fake_renderer import fake_renderer
from tests.device_agent.storage.test_store import put

MODEL = Path(__file__).parents[3] / "reference_model"
BUNDLE = MODEL / "artifacts" / "talking-portrait-1.0.bundle"
ADAPTER = MODEL / "artifacts" / "mandarin.adapter"


def reason(bundle: Path | bytes, adapter: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        run_trial(bundle, adapter)
    assert caught.value.detail.endswith(".")
    return caught.value


def test_the_shipped_release_passes_and_its_adapter_helps() -> None:
    plain = run_trial(BUNDLE, None)
    adapted = run_trial(BUNDLE, ADAPTER)
    assert plain.failure is None
    assert adapted.failure is None
    before = {part.segment: part for part in plain.lip_errors}
    after = {part.segment: part for part in adapted.lip_errors}
    assert after["mandarin"].lip_mm < before["mandarin"].lip_mm < before["mandarin"].mean_pose_mm


def test_an_adapter_for_another_base_model_is_refused() -> None:
    with Bundle.open(BUNDLE) as bundle:
        tensors = load(ADAPTER, bundle.sha256, bundle.manifest.adapter).tensors
        rank = bundle.manifest.adapter.rank
    other = pack(tensors, base_model="0" * 64, rank=rank, name="m", segment="mandarin")
    assert reason(BUNDLE, other).reason is Reason.WRONG_BASE_MODEL


def test_a_broken_adapter_or_bundle_is_refused() -> None:
    assert reason(BUNDLE, ADAPTER.read_bytes()[:-1]).reason is Reason.BAD_ARTIFACT
    assert reason(b"no zip", ADAPTER.read_bytes()).reason is Reason.BAD_ARTIFACT


def test_an_adapter_that_spoils_the_lips_does_not_pass_and_says_by_how_much() -> None:
    with Bundle.open(BUNDLE) as bundle:
        good = load(ADAPTER, bundle.sha256, bundle.manifest.adapter)
        spoilt = pack(
            {
                name: np.ascontiguousarray(-tensor if name == "A_all" else tensor)
                for name, tensor in good.tensors.items()
            },
            base_model=bundle.sha256,
            rank=good.rank,
            name="spoilt",
            segment="mandarin",
        )
    report = run_trial(BUNDLE, spoilt)
    assert report.failure is not None
    assert report.failure.reason is Reason.TRIAL_FAILED
    assert " mm" in report.failure.detail
    assert report.lip_errors


def stored(folder: Path) -> tuple[FileStore, Slot]:
    """The shipped release with its adapter."""
    store = FileStore(folder)
    files = []
    for kind, path in (("base_model", BUNDLE), ("lora_delta", ADAPTER)):
        data = path.read_bytes()
        files.append(Installed(kind=kind, path=path.name, length=len(data), sha256=put(store, data)))  # type: ignore[arg-type]
    return store, Slot(release="0" * 64, artifacts=tuple(files))


@pytest.mark.slow
def test_a_trial_reads_the_store_and_keeps_films_away(tmp_path: Path) -> None:
    store, slot = stored(tmp_path)
    quiet = threading.Lock()
    renderer = Renderer()
    reports: list[TrialReport] = []

    def measure() -> None:
        reports.append(StoreTrial(store, renderer, quiet).measure(slot))

    trial = threading.Thread(target=measure, daemon=True)
    with quiet:
        trial.start()
        trial.join(0.3)
        assert not reports, "a film plays"
    trial.join(30)
    (report,) = reports
    assert report.failure is None
    assert report.figures["memory_mb"] > 50
    assert report.lip_errors == run_trial(BUNDLE, ADAPTER).lip_errors, "the same in whichever process"
    renderer.close()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("next(films()); beat(); os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL in mid-trial"),
        ("next(films()); beat(); time.sleep(60)", "stood still"),
        ("next(films()); say({'type': 'broke', 'detail': 'It needed too much.', 'out_of_memory': True})", "too much"),
        (
            "next(films()); say({'type': 'measured', 'lip_errors': [], 'figures': {}, 'failures': ['Slow.', 'No.']})",
            "Slow. No.",
        ),
    ],
)
def test_a_release_that_brings_its_renderer_down_has_failed_its_trial(tmp_path: Path, body: str, says: str) -> None:
    store, slot = stored(tmp_path)
    renderer = Renderer(RendererOptions(beat_s=0.5), fake_renderer(tmp_path, body))
    report = StoreTrial(store, renderer).measure(slot)
    assert report.failure is not None
    assert report.failure.reason is Reason.TRIAL_FAILED
    assert says in report.failure.detail
    renderer.close()


def test_a_trial_that_cannot_begin_says_why_and_one_cut_off_by_the_agent_s_end_says_nothing(tmp_path: Path) -> None:
    store, slot = stored(tmp_path)
    for blame, expected in (
        ("base_model", Reason.WRONG_BASE_MODEL), ("release", Reason.BAD_ARTIFACT), ("disk", Reason.DISK_FULL),
    ):  # fmt: skip
        body = f"next(films()); say({{'type': 'refused', 'detail': 'No.', 'blame': {blame!r}}})"
        renderer = Renderer(command=fake_renderer(tmp_path, body))
        with pytest.raises(Refused) as caught:
            StoreTrial(store, renderer).measure(slot)
        assert caught.value.reason is expected
        renderer.close()
    with pytest.raises(RendererDied) as died:
        StoreTrial(store, renderer).measure(slot)
    assert died.value.kind == "closed"


def test_a_fault_of_the_npu_in_a_trial_is_told(tmp_path: Path) -> None:
    store, slot = stored(tmp_path)
    body = (
        "next(films()); say({'type': 'fault', 'detail': 'The NPU is gone.'})\n"
        "say({'type': 'measured', 'lip_errors': [], 'figures': {}, 'failures': []})"
    )
    renderer = Renderer(command=fake_renderer(tmp_path, body))
    events: list[AnyEvent] = []
    StoreTrial(store, renderer, record=events.append).measure(slot)
    (event,) = events
    assert isinstance(event, HealthEvent)
    assert (event.kind, event.detail, event.release) == ("npu_fault", "The NPU is gone.", slot.release)
    renderer.close()
