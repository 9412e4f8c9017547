"""The trial runs the real golden clips on the real model, and refuses what cannot run."""

import threading
from pathlib import Path

import numpy as np
import pytest

from device_agent.adapters import load, pack
from device_agent.bundle import Bundle
from device_agent.installer.slots import Installed, Slot
from device_agent.store import FileStore
from device_agent.trial import StoreTrial, run_trial
from protocol.errors import Reason, Refused
from tests.device_agent.test_store import put

MODEL = Path(__file__).parents[2] / "reference_model"
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


def test_a_trial_reads_the_store_and_keeps_films_away(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    files = []
    for kind, path in (("base_model", BUNDLE), ("lora_delta", ADAPTER)):
        data = path.read_bytes()
        files.append(Installed(kind=kind, path=path.name, length=len(data), sha256=put(store, data)))  # type: ignore[arg-type]
    slot = Slot(release="0" * 64, artifacts=tuple(files))
    quiet = threading.Lock()
    done = threading.Event()

    def measure() -> None:
        StoreTrial(store, quiet).measure(slot)
        done.set()

    with quiet:
        threading.Thread(target=measure, daemon=True).start()
        assert not done.wait(1.0), "a film plays"
    assert done.wait(20)
