"""`framectl adapter` on the committed bundle and adapter, as a model engineer types it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agent.adapters import pack
from device_agent.adapters.peft import unpack_peft
from device_agent.bundle.manifest import FloatArray
from device_agent.trial.golden import evaluate
from framectl.__main__ import main
from tests.reference_model.artifacts import ADAPTER, BUNDLE, bundle, mandarin, members

WITHOUT_MODEL_PARTS = """
import sys
sys.modules["numpy"] = None  # as if it were not installed
from framectl.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def adapter(path: Path, tensors: dict[str, FloatArray], **words: str) -> str:
    named = {"base_model": bundle().sha256, "name": "fix", "segment": "base", **words}
    path.write_bytes(pack(tensors, rank=8, **named))
    return str(path)


def harmful(path: Path) -> str:
    """An adapter that makes lips worse everywhere: random factors."""
    draw = np.random.default_rng(5)
    tensors = {
        tensor.name: draw.uniform(tensor.minimum / 2, tensor.maximum / 2, tensor.shape).astype(np.float32)
        for tensor in bundle().manifest.adapter.tensors
    }
    return adapter(path, tensors, name="careless")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["adapter", *(str(argument) for argument in arguments)])
    text = capsys.readouterr()
    return status, text.out, text.err


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> Any:
    found, out, _ = run(capsys, *arguments, "--json")
    assert found == status
    return json.loads(out)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    status, out, err = run(capsys, *arguments)
    assert (status, out, err.count("\n")) == (1, "", 1)
    return err


def test_inspect_shows_what_the_file_holds_and_changes_most(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "inspect", ADAPTER, "--bundle", BUNDLE)
    assert (found["name"], found["segment"], found["rank"]) == ("mandarin", "mandarin", "8")
    assert (found["sha256"], found["base_model"], found["fits"]) == (mandarin().sha256, bundle().sha256, True)
    values = mandarin().tensors["A_all"]
    (a_all, _) = found["tensors"]
    assert a_all["minimum"] == pytest.approx(float(values.min()))
    assert a_all["norm"] == pytest.approx(float(np.linalg.norm(values)), rel=1e-5)
    assert a_all["range_share"] == pytest.approx(
        float(np.abs(values).max()) / bundle().manifest.adapter.tensors[0].maximum
    )
    norms = [module["delta_norm"] for module in found["modules"]]
    assert norms == sorted(norms, reverse=True)
    assert sum(module["share"] for module in found["modules"]) == pytest.approx(1.0)
    slot = next(slot for slot in bundle().manifest.adapter.slots if slot.name == found["modules"][0]["name"])
    a = values[slot.a_start : slot.a_start + slot.inputs]
    b = mandarin().tensors["B_all"][:, slot.b_start : slot.b_start + slot.outputs]
    assert norms[0] == pytest.approx(float(np.linalg.norm(a @ b)), rel=1e-4)


def test_inspect_without_a_bundle_says_what_the_file_says(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "inspect", ADAPTER)
    assert status == 0
    assert bundle().sha256 in out
    assert "With --bundle" in out


def test_inspect_of_an_adapter_for_another_base_model_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stranger = adapter(tmp_path / "a.adapter", dict(mandarin().tensors), base_model="ab" * 32)
    status, out, err = run(capsys, "inspect", stranger, "--bundle", BUNDLE)
    assert status == 1
    assert "does not fit" in out
    assert err.startswith("This adapter was trained for the base model abababababab")


def test_inspect_calls_zeros_the_base_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    zeros = {name: np.zeros_like(values) for name, values in mandarin().tensors.items()}
    _, out, _ = run(capsys, "inspect", adapter(tmp_path / "zero.adapter", zeros), "--bundle", BUNDLE)
    assert "it is the base model alone" in out


def test_a_file_that_is_no_adapter_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "zip.adapter").write_bytes(b"PK\x03\x04" + b"\0" * 40)
    assert "is not an adapter" in refusal(capsys, "inspect", tmp_path / "zip.adapter")
    assert "is not a file" in refusal(capsys, "inspect", tmp_path / "none.adapter")
    assert "not a bundle" in refusal(capsys, "inspect", ADAPTER, "--bundle", ADAPTER)


def test_what_peft_saved_is_packed_and_never_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    weights, config = unpack_peft(ADAPTER.read_bytes(), bundle().sha256, bundle().manifest.adapter)
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    (tmp_path / "adapter_config.json").write_bytes(config)
    out = tmp_path / "mandarin.adapter"
    words = ("--name", "mandarin", "--segment", "mandarin")
    status, said, _ = run(capsys, "pack", tmp_path, "--bundle", BUNDLE, *words, "--out", out)
    assert status == 0
    assert f"Packed mandarin ({mandarin().sha256[:12]}, {ADAPTER.stat().st_size} bytes)" in said
    assert out.read_bytes() == ADAPTER.read_bytes()
    assert "exists already" in refusal(capsys, "pack", tmp_path, "--bundle", BUNDLE, *words, "--out", out)


def test_a_segment_without_golden_clips_is_pointed_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    weights, config = unpack_peft(ADAPTER.read_bytes(), bundle().sha256, bundle().manifest.adapter)
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    (tmp_path / "adapter_config.json").write_bytes(config)
    words = ("--name", "fix", "--segment", "singing", "--out", tmp_path / "fix.adapter")
    _, said, _ = run(capsys, "pack", tmp_path, "--bundle", BUNDLE, *words)
    assert "no golden clips of singing" in said


def test_a_folder_that_peft_did_not_write_leaves_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "fix.adapter"
    words = ("--bundle", BUNDLE, "--name", "fix", "--segment", "base", "--out", out)
    assert "holds no adapter_model.safetensors" in refusal(capsys, "pack", tmp_path, *words)
    assert not out.exists()


def test_eval_measures_what_a_frames_trial_measures(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "eval", ADAPTER, "--bundle", BUNDLE)
    base, adapted = evaluate(bundle()), evaluate(bundle(), mandarin())
    assert [part["segment"] for part in found["segments"]] == [part.segment for part in base.segments]
    for part, own in zip(found["segments"], found["adapters"][0]["segments"], strict=True):
        assert part["base_model_mm"] == pytest.approx(base.segment(part["segment"]).lip_mm, abs=1e-4)
        assert part["mean_pose_mm"] == pytest.approx(base.segment(part["segment"]).mean_pose_mm, abs=1e-4)
        assert own["lip_mm"] == pytest.approx(adapted.segment(part["segment"]).lip_mm, abs=1e-4)
    assert found["adapters"][0]["passed"]


def test_eval_puts_several_adapters_beside_each_other_and_says_who_is_hurt(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = harmful(tmp_path / "bad.adapter")
    status, out, err = run(capsys, "eval", ADAPTER, bad, "--bundle", BUNDLE)
    assert status == 1
    assert out.splitlines()[1].split()[-2:] == ["mandarin", "careless"]
    assert "over its limit 0.45: a frame's trial would stop it." in out
    assert "on mandarin, its own segment" in out
    assert err == "Over a limit: careless; train again before releasing.\n"


def test_adapters_of_one_name_are_told_apart_by_file(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "eval", ADAPTER, ADAPTER, "--bundle", BUNDLE)
    assert out.count(f"{ADAPTER}:") == 2


def test_limits_can_be_tried(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = answer(capsys, "eval", ADAPTER, "--bundle", BUNDLE, "--limit", "base=0.01", status=1)
    parts = {part["segment"]: part for part in found["adapters"][0]["segments"]}
    assert not parts["base"]["passed"]
    assert "a trial with these clips and limits would stop it" in parts["base"]["finding"]
    assert parts["mandarin"]["passed"]
    bad = harmful(tmp_path / "bad.adapter")
    _, out, _ = run(capsys, "eval", bad, "--bundle", BUNDLE, "--limit", "base=none")
    assert "which has no limit: only the gray release can see it" in out
    assert "There are no clips of" in refusal(capsys, "eval", ADAPTER, "--bundle", BUNDLE, "--limit", "nobody=1")


@pytest.mark.parametrize("text", ["base", "=0.4", "base=", "base=-1", "base=nan", "base=inf", "base=x"])
def test_a_limit_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["adapter", "eval", str(ADAPTER), "--bundle", str(BUNDLE), "--limit", text])
    assert ended.value.code == 2
    assert "no limit such as base=0.45" in capsys.readouterr().err


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """The golden clips of the segment base, unpacked."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, content in members().items():
        if name.startswith("golden/base-"):
            (folder / Path(name).name).write_bytes(content)
    return folder


def test_clips_from_a_folder_are_measured_like_golden_ones(capsys: pytest.CaptureFixture[str], clips: Path) -> None:
    found = answer(capsys, "eval", ADAPTER, "--bundle", BUNDLE, "--clips", clips)
    (part,) = found["segments"]
    assert (part["segment"], part["clips"]) == ("base", len(list(clips.glob("*.wav"))))
    assert part["base_model_mm"] == pytest.approx(evaluate(bundle()).segment("base").lip_mm, abs=1e-4)
    _, out, _ = run(capsys, "eval", ADAPTER, "--bundle", BUNDLE, "--clips", clips)
    assert "There are no clips of its own segment mandarin" in out


def test_clips_that_cannot_be_used_are_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str], clips: Path, tmp_path: Path
) -> None:
    words = ("eval", ADAPTER, "--bundle", BUNDLE, "--clips")
    assert "cannot be read" in refusal(capsys, *words, tmp_path / "nothing")
    motion = clips / "base-1.motion"
    content = motion.read_bytes()
    motion.write_bytes(content[:-1])
    assert f"must hold {len(content) // 24} steps of 6 float32 values" in refusal(capsys, *words, clips)
    motion.write_bytes(b"\xff" * len(content))
    assert "not finite" in refusal(capsys, *words, clips)
    motion.unlink()
    assert "base-1.motion cannot be read" in refusal(capsys, *words, clips)
    (clips / "base-1.wav").write_bytes(b"RIFF")
    assert "mono 16-bit WAV at 16000 Hz" in refusal(capsys, *words, clips)
    (clips / "base-1.wav").rename(clips / "base.wav")
    assert "names no segment" in refusal(capsys, *words, clips)
    (tmp_path / "empty").mkdir()
    assert "must hold 1 to 1000 clips" in refusal(capsys, *words, tmp_path / "empty")


def test_an_adapter_for_another_base_model_is_not_evaluated(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    stranger = adapter(tmp_path / "a.adapter", dict(mandarin().tensors), base_model="ab" * 32)
    assert "trained for the base model" in refusal(capsys, "eval", ADAPTER, stranger, "--bundle", BUNDLE)


def without_model_parts(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_MODEL_PARTS, *arguments], capture_output=True, text=True, check=False
    )


def test_without_the_model_parts_one_sentence_says_what_to_install() -> None:
    ended = without_model_parts("adapter", "inspect", str(ADAPTER))
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert "pip install framefleet[model]" in ended.stderr


def test_other_commands_need_no_model_parts() -> None:
    assert without_model_parts("release", "sign", "--help").returncode == 0
